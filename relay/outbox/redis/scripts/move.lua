-- Let a slice of what waits in a lane, and is not leased, wait in another; reply with how many.

local moved = unclaimed('due:' .. given.lane, '-inf', '+inf', SLICE)
free_first()
redis.call('HSETNX', at .. 'lanes', given.to, given.address)
for _, pair in ipairs(moved) do
  local number, event = pair[1], pair[2]
  local due = due_at(number, event)
  unqueue(number, event)
  event[LANE], event[TOKEN] = given.to, ''
  save(number, event)
  queue(number, event, due)
end
carry_out()
return #moved
