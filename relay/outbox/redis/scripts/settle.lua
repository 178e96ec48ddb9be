-- Say what becomes of claims, those that are still held under the token; reply with their numbers.

local numbers, call, replied = lease_of(given.token)
-- The same settlement again: its answer got lost on the way.
if call == given.call then return replied end

free_first()
local settled, done = {}, {}

local function held(list)
  local found, numbers = {}, {}
  for index, one in ipairs(list) do numbers[index] = one.number end
  for index, event in ipairs(rows('waiting', numbers)) do
    if event and event[TOKEN] == given.token and not done[numbers[index]] then
      found[#found + 1] = {list[index], event}
      done[numbers[index]] = true
      settled[#settled + 1] = numbers[index]
    end
  end
  return found
end

local function note(one, delivered)
  amend(one.number, function(entry)
    entry[ENTRY_ATTEMPTS] = entry[ENTRY_ATTEMPTS] + #one.attempts
    entry[ENTRY_DELIVERED] = delivered
    local answers = entry[ENTRY_ANSWERS]
    for _, answer in ipairs(one.attempts) do answers[#answers + 1] = answer end
    while #answers > given.attempts_kept do table.remove(answers, 1) end
  end)
end

for _, pair in ipairs(held(given.ack)) do
  local one, event = pair[1], pair[2]
  stop_waiting(one.number, event)
  erase(one.number, event)
  post(event[ENVIRONMENT], 'delivered', '', 1)
  note(one, true)
end
for _, pair in ipairs(held(given.dead)) do
  local one, event = pair[1], pair[2]
  event[ATTEMPTS] = event[ATTEMPTS] + #one.attempts
  dead_letter(one.number, event, one.reason, one.detail)
  note(one, false)
end
for _, pair in ipairs(held(given.retry)) do
  local one, event = pair[1], pair[2]
  event[TOKEN], event[ATTEMPTS] = '', event[ATTEMPTS] + #one.attempts
  save(one.number, event)
  later('ZADD', 'due:' .. event[LANE], text(one.due + skew), one.number)
  note(one, false)
end
trim_dead_letters()

local left = {}
for _, number in ipairs(numbers) do
  if not done[number] then left[#left + 1] = number end
end
if #settled > 0 then keep_lease(given.token, left, given.call, settled) end
return settled
