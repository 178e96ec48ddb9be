-- Let dead letters wait again, but for those that can never be sent; reply with how many do.

local replayed = 0
for index, letter in ipairs(rows('dead', given.numbers)) do
  if letter and not given.obstacles[letter[REASON]] then
    local number = given.numbers[index]
    unbury(number, letter)
    letter[SINCE], letter[ATTEMPTS], letter[MADE_AT], letter[REASON], letter[DETAIL] = now, 0, false, false, false
    start_waiting(number, letter, now)
    replayed = replayed + 1
  end
end
free_first()
carry_out()
return replayed
