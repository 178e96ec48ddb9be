-- Let what was handed over wait in a lane here, but for what was taken before and not let go there. Its rows stand in
-- ARGV from the second on, each followed by its event.

redis.call('HSETNX', at .. 'lanes', given.lane, given.address)
local free = redis.call('HINCRBY', at .. 'meta', 'numbers', #given.due) - #given.due
for index, due in ipairs(given.due) do
  local event, blob = cmsgpack.unpack(ARGV[2 * index]), ARGV[2 * index + 1]
  local number = name(free + index)
  if redis.call('HSETNX', at .. 'keys', event[KEY], number) == 1 then
    event[LANE], event[TOKEN] = given.lane, ''
    later('HSET', 'events', number, blob)
    count('meta', 'bytes', event[BYTES])
    start_waiting(number, event, due + skew)
  end
end
carry_out()
return 0
