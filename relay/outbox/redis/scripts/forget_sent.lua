-- Forget what was sent last for an identity; reply with how many environments knew.

free_first()
local known = 0
for _, environment in ipairs(redis.call('HKEYS', at .. 'memories')) do
  known = known + forget_sent(environment, given.who)
end
return known
