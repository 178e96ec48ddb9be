-- What members told of themselves, and when, by the caller's clock.

local reply = {}
local seen = redis.call('ZRANGE', at .. 'members:seen', 0, -1, 'WITHSCORES')
for index = 1, #seen, 2 do
  reply[#reply + 1] = redis.call('HGET', at .. 'members', seen[index])
  reply[#reply + 1] = text(seen[index + 1] - skew)
end
return reply
