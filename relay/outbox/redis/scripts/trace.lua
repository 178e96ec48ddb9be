-- Look through a page of the journal, from its end, for an identity's entries. Each: the number, the entry, its
-- properties, when its event is due, whether that is leased, and the reason and detail of its dead letter.

local order = redis.call('LRANGE', at .. 'journal:order', -given.seen - MOST, -given.seen - 1)
local reply = {#order}
for index = #order, 1, -1 do
  local number = order[index]
  local packed = redis.call('HGET', at .. 'journal', number)
  local entry = packed and cmsgpack.unpack(packed)
  if entry and entry[1] == given.who and (#reply - 1) / 7 < given.limit then
    local event, letter = row('waiting', number), row('dead', number)
    local found = {
      number,
      packed,
      redis.call('HGET', at .. 'properties', entry[STATE]),
      event and text(due_at(number, event) - skew) or false,
      event and is_leased(number, event) and 1 or 0,
      letter and letter[REASON] or false,
      letter and letter[DETAIL] or false,
    }
    for part = 1, 7 do reply[#reply + 1] = found[part] end
  end
end
return reply
