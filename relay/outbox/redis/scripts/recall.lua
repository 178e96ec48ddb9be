-- What was sent last for each of some identities: a fingerprint and a time, or two times nothing.

local reply = {}
for _, one in ipairs(given.whos) do
  local sent = row('sent:' .. one[1], one[2])
  reply[#reply + 1] = sent and sent[1]
  reply[#reply + 1] = sent and text(sent[2])
end
return reply
