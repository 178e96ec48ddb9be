-- What waits, by lane and environment: address, environment, events, bytes, since when.

local reply = {}
local levels = redis.call('HGETALL', at .. 'levels')
for index = 1, #levels, 2 do
  local order = at .. 'age:' .. levels[index]
  local oldest = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')[2]
  if oldest then
    local lane, environment = string.match(levels[index], '^([^%z]*)%z(.*)$')
    reply[#reply + 1] = redis.call('HGET', at .. 'lanes', lane)
    reply[#reply + 1] = environment
    reply[#reply + 1] = redis.call('ZCARD', order)
    reply[#reply + 1] = tonumber(levels[index + 1])
    reply[#reply + 1] = text(oldest - skew)
  end
end
return reply
