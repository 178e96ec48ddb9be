-- Look through a page of dead letters by their numbers: reply with the number to go on after, empty at the end, and
-- with those chosen, or only how many they are.

local order = redis.call('ZRANGEBYSCORE', at .. 'dead:order', '(' .. text(given.after), '+inf', 'LIMIT', 0, MOST)
local reply, chosen, last = {''}, 0, ''
for index, letter in ipairs(rows('dead', order)) do
  local made_at = letter[MADE_AT]
  if (not given.environment or letter[ENVIRONMENT] == given.environment)
    and (not given.reason or letter[REASON] == given.reason)
    and (not given.since or made_at >= given.since)
    and (not given['until'] or made_at < given['until'])
  then
    chosen = chosen + 1
    if given.limit > 0 then
      for _, part in ipairs({order[index], letter[LANE], letter[ATTEMPTS], text(made_at), letter[REASON], letter[DETAIL]}) do
        reply[#reply + 1] = part
      end
      reply[#reply + 1] = redis.call('HGET', at .. 'events', order[index])
      if chosen == given.limit then
        reply[1] = order[index]
        return reply
      end
    end
  end
  last = order[index]
end
if #order == MOST then reply[1] = last end
if given.limit == 0 then return {reply[1], chosen} end
return reply
