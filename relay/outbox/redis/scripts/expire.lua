-- Dead-letter a slice of what waits for too long and is not leased; reply with how many of each environment.

free_first()
local expired, left, reply = {}, SLICE, {}
for _, field in ipairs(redis.call('HKEYS', at .. 'levels')) do
  for _, pair in ipairs(unclaimed('age:' .. field, '-inf', '(' .. text(given.before + skew), left)) do
    dead_letter(pair[1], pair[2], 'expired', '')
    local environment = pair[2][ENVIRONMENT]
    expired[environment] = (expired[environment] or 0) + 1
    left = left - 1
  end
end
trim_dead_letters()
for environment, events in pairs(expired) do
  reply[#reply + 1] = environment
  reply[#reply + 1] = events
end
return reply
