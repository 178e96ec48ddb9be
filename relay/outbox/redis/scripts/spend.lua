-- Spend one request from a Heap app's budget and from those of the identities that it names, or nothing.
-- The arithmetic is that of core/budget.py; the seconds are Redis'. Without identities it only tells the lane's level.
-- A clock that jumps gives a burst more at most. The reply ends the lane's part with how many events it ever paid for.

local seconds = clock[1] + clock[2] / 1e6
local lane = redis.call('HMGET', at .. 'budget:' .. given.lane, 'tokens', 'at', 'start', 'paid')
free_first()
if not lane[3] then
  lane = {0, seconds, seconds, 0}
  redis.call('HSET', at .. 'budget:' .. given.lane, 'tokens', 0, 'at', text(seconds), 'start', text(seconds))
end
local start, paid = tonumber(lane[3]), tonumber(lane[4] or 0)

local function level(tokens, since, rate)
  return math.min(rate[2], tokens + math.max(0, seconds - since) * rate[1])
end

local function is_short(wanted, have, rate) return math.min(wanted, rate[2]) - have > given.rounding end

local have = level(tonumber(lane[1]), tonumber(lane[2]), given.lane_rate)
local short = is_short(given.events, have, given.lane_rate)
local reply, allowances = {}, {}
for index, one in ipairs(given.identities) do
  local packed = redis.call('GET', at .. 'budget:' .. given.lane .. ' ' .. one[1])
  local known = packed and cmsgpack.unpack(packed) or {0, 0, start}
  local events = level(known[1], known[3], given.event_rate)
  local requests = level(known[2], known[3], given.request_rate)
  allowances[index] = {events, requests}
  if is_short(one[2], events, given.event_rate) or is_short(1, requests, given.request_rate) then
    short = true
    reply[#reply + 1] = index
    reply[#reply + 1] = text(events)
    reply[#reply + 1] = text(requests)
  end
end
if short then return {0, text(have), paid, unpack(reply)} end

have = have - given.events
redis.call('HSET', at .. 'budget:' .. given.lane, 'tokens', text(have), 'at', text(seconds), 'paid', paid + given.events)
for index, one in ipairs(given.identities) do
  local events, requests = allowances[index][1] - one[2], allowances[index][2] - 1
  local full = math.max((given.event_rate[2] - events) / given.event_rate[1], (given.request_rate[2] - requests) / given.request_rate[1])
  local key = at .. 'budget:' .. given.lane .. ' ' .. one[1]
  redis.call('SET', key, cmsgpack.pack({events, requests, seconds}), 'PX', math.ceil(full * 1000) + 1)
end
return {1, text(have), paid + given.events}
