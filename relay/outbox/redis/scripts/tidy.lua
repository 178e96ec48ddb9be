-- Forget days that are over, but for each environment's last few, writers that have not written for a day, and whom to
-- let in nothing of, once no spool is so old.

free_first()
local days = {}
for _, field in ipairs(redis.call('HKEYS', at .. 'books')) do
  local day, environment = string.match(field, '^day%z([^%z]*)%z(.*)$')
  if day then
    days[environment] = days[environment] or {}
    table.insert(days[environment], day)
  end
end
for environment, list in pairs(days) do
  table.sort(list)
  for index = 1, #list - given.kept do
    if list[index] < given.before then
      redis.call('HDEL', at .. 'books', 'day\0' .. list[index] .. '\0' .. environment)
    end
  end
end
redis.call('ZREMRANGEBYSCORE', at .. 'forgotten', '-inf', text(now - given.forgotten))
local written = redis.call('HGETALL', at .. 'written')
for index = 1, #written, 2 do
  if written[index + 1] + 0 < now - 86400 then
    redis.call('HDEL', at .. 'writers', written[index])
    redis.call('HDEL', at .. 'written', written[index])
  end
end
return 0
