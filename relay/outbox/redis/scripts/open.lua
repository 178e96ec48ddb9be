-- Make an outbox, where there is none; say which it is. Its keys lie below a version of their own: see `format`.
local at = string.sub(KEYS[1], 1, -5)
redis.call('HSETNX', at .. 'meta', 'installation', ARGV[1])
redis.call('HSETNX', at .. 'meta', 'secret', ARGV[2])
return redis.call('HMGET', at .. 'meta', 'installation', 'secret')
