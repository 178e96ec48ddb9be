-- Lease a slice of what waits in a lane, due or not, to who moves it to another tag; reply with each one's number, row,
-- due time and event.

local numbers, reply = {}, {}
for index, pair in ipairs(unclaimed('due:' .. given.lane, '-inf', '+inf', SLICE)) do
  local number, event = pair[1], pair[2]
  numbers[index] = number
  for _, part in ipairs({number, cmsgpack.pack(event), text(due_at(number, event) - skew)}) do reply[#reply + 1] = part end
  reply[#reply + 1] = redis.call('HGET', at .. 'events', number)
  event[TOKEN] = given.token
  save(number, event)
  later('ZADD', 'due:' .. given.lane, text(now + given.lease), number)
end
free_first()
carry_out()
if #numbers > 0 then keep_lease(given.token, numbers, '', {}) end
return reply
