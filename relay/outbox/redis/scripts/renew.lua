-- Let a lease end at another time; say how many claims it still holds.

local numbers = lease_of(given.token)
local held = 0
free_first()
for index, event in ipairs(rows('waiting', numbers)) do
  if event and event[TOKEN] == given.token then
    held = held + 1
    later('ZADD', 'due:' .. event[LANE], text(given['until'] + skew), numbers[index])
  end
end
carry_out()
if held > 0 then redis.call('EXPIRE', at .. 'lease:' .. given.token, LEASE_KEPT) end
return held
