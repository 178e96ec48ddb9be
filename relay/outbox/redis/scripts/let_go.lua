-- Forget what was taken over elsewhere, as far as it is still held under the token; reply with how much.

free_first()
local numbers, gone = lease_of(given.token), 0
for index, event in ipairs(rows('waiting', numbers)) do
  if event and event[TOKEN] == given.token then
    unsay(numbers[index], event)
    stop_waiting(numbers[index], event)
    erase(numbers[index], event)
    gone = gone + 1
  end
end
carry_out()
redis.call('DEL', at .. 'lease:' .. given.token)
return gone
