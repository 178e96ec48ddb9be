-- Let a member be known as it tells of itself now; forget those that were silent for too long.

redis.call('HSET', at .. 'members', given.name, ARGV[2])
redis.call('ZADD', at .. 'members:seen', text(now), given.name)
local gone = redis.call('ZRANGEBYSCORE', at .. 'members:seen', '-inf', text(now - given.forgotten), 'LIMIT', 0, MOST)
if #gone > 0 then
  redis.call('HDEL', at .. 'members', unpack(gone))
  redis.call('ZREM', at .. 'members:seen', unpack(gone))
end
return #gone
