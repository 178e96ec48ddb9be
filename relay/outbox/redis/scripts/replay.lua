-- Let dead letters wait again, but for those that can never be sent; reply with how many do.

local replayed = 0
for index, letter in ipairs(rows('dead', given.numbers)) do
  if letter and not given.obstacles[letter[REASON]] then
    local number = given.numbers[index]
    unbury(number, letter)
    local event = {}
    for field = 1, REPLACEABLE do event[field] = letter[field] end
    event[SINCE], event[ATTEMPTS] = now, 0
    start_waiting(number, event, now)
    replayed = replayed + 1
  end
end
free_first()
carry_out()
return replayed
