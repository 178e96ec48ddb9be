-- What is due in a lane, longest due first: peek tells, claim leases it under a token.

local order = 'due:' .. given.lane
local ranges = {{'-inf', text(now)}, {'(' .. text(now + AHEAD), '+inf'}}
local taken, size, oldest, newer = {}, 0, nil, false
local FARTHEST = 10 * MOST -- events of a newer relay's that are looked past: Redis does nothing else meanwhile

-- False once the claim is full.
local function take(number, event)
  if event[VERSION] > given.format then
    newer = true
    return true
  end
  if #taken == given.limit or (#taken > 0 and size + event[SIZE] > given.max_bytes) then return false end
  taken[#taken + 1] = {number, event}
  size = size + event[SIZE]
  oldest = math.min(oldest or event[SINCE], event[SINCE])
  return true
end

local function take_all(range)
  local offset = 0
  while offset < FARTHEST do
    local numbers = redis.call('ZRANGEBYSCORE', at .. order, range[1], range[2], 'LIMIT', offset, MOST)
    for index, event in ipairs(rows('waiting', numbers)) do
      if not take(numbers[index], event) then return false end
    end
    if #numbers < MOST then return true end
    offset = offset + MOST
  end
end

local function events_of(numbers, pairs_of)
  local reply = {}
  for first, last in pages(numbers) do
    for index, blob in ipairs(redis.call('HMGET', at .. 'events', unpack(numbers, first, last))) do
      reply[#reply + 1] = numbers[first + index - 1]
      reply[#reply + 1] = pairs_of[first + index - 1][2][ATTEMPTS]
      reply[#reply + 1] = blob
    end
  end
  return reply
end

-- The same claim again: its answer got lost on the way, for whatever time.
if given.token then
  local held, pairs_of = {}, {}
  local numbers = lease_of(given.token)
  for index, event in ipairs(rows('waiting', numbers)) do
    if event and event[TOKEN] == given.token then
      held[#held + 1] = numbers[index]
      pairs_of[#pairs_of + 1] = {numbers[index], event}
      later('ZADD', order, text(now + given.lease), numbers[index])
    end
  end
  if #held > 0 then
    free_first()
    carry_out()
    return events_of(held, pairs_of)
  end
end

local _ = take_all(ranges[1]) and take_all(ranges[2])
if #taken == 0 and newer then return redis.error_reply('NEWER events only') end

if not given.token then
  local upcoming = redis.call('ZRANGEBYSCORE', at .. order, '(' .. text(now), text(now + AHEAD), 'WITHSCORES', 'LIMIT', 0, 1)
  local next_due = upcoming[2] and text(upcoming[2] - skew) or false
  return {#taken, size, oldest and text(oldest - skew) or false, next_due}
end

free_first()
local numbers = {}
for index, one in ipairs(taken) do
  one[2][TOKEN] = given.token
  save(one[1], one[2])
  later('ZADD', order, text(now + given.lease), one[1])
  numbers[index] = one[1]
end
carry_out()
if #numbers > 0 then keep_lease(given.token, numbers, '', {}) end
return events_of(numbers, taken)
