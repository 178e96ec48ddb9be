-- Make an outbox, where there is none; say which it is. Its keys lie below a version of their own: see `format`.
-- Where there is one nothing is written, so that one can be looked at that takes no writes.
local at = string.sub(KEYS[1], 1, -5)
local found = redis.call('HMGET', at .. 'meta', 'installation', 'secret')
if found[1] and found[2] then return found end
redis.call('HSETNX', at .. 'meta', 'installation', ARGV[1])
redis.call('HSETNX', at .. 'meta', 'secret', ARGV[2])
return redis.call('HMGET', at .. 'meta', 'installation', 'secret')
