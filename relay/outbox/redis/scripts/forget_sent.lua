-- Forget what was sent last for an identity, and let in no more what was captured of it until now; reply with how many
-- environments knew.

free_first()
redis.call('ZADD', at .. 'forgotten', text(now), given.who)
local known = 0
for _, environment in ipairs(redis.call('HKEYS', at .. 'memories')) do
  known = known + forget_sent(environment, given.who)
end
return known
