-- Drop dead letters, counted as the operator's; reply with how many.

free_first()
local dropped = 0
for index, letter in ipairs(rows('dead', given.numbers)) do
  if letter then
    drop_letter(given.numbers[index], letter, 'operator')
    dropped = dropped + 1
  end
end
carry_out()
return dropped
