-- Look through a page of what waits, of dead letters or of the journal, and erase an identity's.
-- Reply with where to go on, "0" at the end, and how much was erased.

free_first()
local page = redis.call('HSCAN', at .. given.among, given.cursor, 'COUNT', MOST)
local seen, erased = {}, 0
for index = 1, #page[2], 2 do
  local number, one = page[2][index], cmsgpack.unpack(page[2][index + 1])
  local who = given.among == 'journal' and one[1] or one[WHO]
  if who == given.who and not seen[number] then
    seen[number] = true
    erased = erased + 1
    if given.among == 'waiting' then
      drop_waiting(number, one, 'dropped', 'forgotten')
    elseif given.among == 'dead' then
      drop_letter(number, one, 'forgotten')
    else
      remove_entry(number, one)
    end
  end
end
carry_out()
return {page[1], erased}
