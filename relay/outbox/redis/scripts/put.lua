-- Store events, dead letters, a tally and journal entries: all of it or, without room, nothing.

-- The same writer's same call again: its answer got lost on the way.
if redis.call('HGET', at .. 'writers', given.writer) == given.call then return {'stored'} end

local sizes = redis.call('HMGET', at .. 'meta', 'bytes', 'journal_bytes')
local remembered = 0
for _, entries in ipairs(redis.call('HVALS', at .. 'memories')) do remembered = remembered + entries end

local function room_needed()
  local needed = #given.entries * (ENTRY_BYTES + STATE_BYTES)
  for index = 2, #ARGV do needed = needed + #ARGV[index] end
  for _, event in ipairs(given.events) do
    needed = needed + EVENT_BYTES + (event.mark ~= '' and given.sent_bytes or 0)
    if given.latest[event.environment] then needed = needed + LATEST_BYTES end
  end
  for _, letter in ipairs(given.letters) do needed = needed + EVENT_BYTES + #letter.detail end
  return needed
end

local is_more_than_a_tally = #given.events + #given.letters + #given.entries > 0
if is_more_than_a_tally then
  local used = (sizes[1] or 0) + (sizes[2] or 0) + remembered * given.sent_bytes
  if used + room_needed() > given.max_bytes then return {'full', text(used), text(room_needed())} end
else
  free_first()
end
redis.call('HSET', at .. 'writers', given.writer, given.call)
redis.call('HSET', at .. 'written', given.writer, text(now))

local behind = {}
for _, event in ipairs(given.events) do
  local tolerated = given.latest[event.environment]
  if tolerated and redis.call('ZCARD', at .. 'due:' .. event.lane) > tolerated then behind[event.lane] = true end
end
for lane, address in pairs(given.lanes) do redis.call('HSETNX', at .. 'lanes', lane, address) end

-- Events and dead letters, whose keys are new.

local every = #given.events + #given.letters + #given.entries
local free = redis.call('HINCRBY', at .. 'meta', 'numbers', every) - every
local numbers = {} -- by key
local stored = {}

local function next_name()
  free = free + 1
  return name(free)
end

local known = {} -- keys
local function look_up(list)
  local keys = {}
  for index, one in ipairs(list) do keys[index] = one.key end
  for first, last in pages(keys) do
    for place, number in ipairs(redis.call('HMGET', at .. 'keys', unpack(keys, first, last))) do
      if number then known[keys[first + place - 1]] = true end
    end
  end
end
look_up(given.events)
look_up(given.letters)

-- Whom to let in nothing of that was captured until then: it comes late, from a spool.
local forgotten = {}
if redis.call('EXISTS', at .. 'forgotten') == 1 then
  local whos = {}
  for _, one in ipairs(given.events) do whos[#whos + 1] = one.who end
  for _, one in ipairs(given.letters) do whos[#whos + 1] = one.who end
  for _, entry in ipairs(given.entries) do whos[#whos + 1] = entry[1] end
  for first, last in pages(whos) do
    for place, since in ipairs(redis.call('ZMSCORE', at .. 'forgotten', unpack(whos, first, last))) do
      forgotten[whos[first + place - 1]] = since and tonumber(since)
    end
  end
end

local function is_forgotten(who, captured_at)
  local since = forgotten[who]
  return since and captured_at + skew <= since
end

local function turn_away(one)
  post(one.environment, 'captured', '', 1)
  post(one.environment, 'dropped', 'forgotten', 1)
end

local function store(one, blob, replaceable)
  if known[one.key] then return nil end
  if is_forgotten(one.who, one.captured_at) then return turn_away(one) end
  local number = next_name()
  known[one.key] = true
  numbers[one.key] = number
  later('HSET', 'keys', one.key, number)
  later('HSET', 'events', number, blob)
  local bytes = #blob + EVENT_BYTES + replaceable * LATEST_BYTES
  count('meta', 'bytes', bytes)
  post(one.environment, 'captured', '', 1)
  local since = one.captured_at + skew
  return number, {given.format, one.size, bytes, since, 0, one.lane, one.environment, one.key, one.who, '', replaceable}
end

-- An environment with an event that was sent regardless does not know any more what was sent last.

local forgetful = {}
for _, one in ipairs(given.events) do
  if one.mark == '' and not forgetful[one.environment] then
    forgetful[one.environment] = true
    redis.call('UNLINK', at .. 'sent:' .. one.environment, at .. 'used:' .. one.environment)
    redis.call('HDEL', at .. 'memories', one.environment)
  end
end

local function remember(number, one, last)
  if last and one.captured_at < last[2] and last[2] <= one.captured_at + AHEAD then return end
  redis.call('HSET', at .. 'sent:' .. one.environment, one.who, cmsgpack.pack({one.mark, one.captured_at, number}))
  redis.call('ZADD', at .. 'used:' .. one.environment, math.floor(one.captured_at / 3600), one.who)
  if not last then redis.call('HINCRBY', at .. 'memories', one.environment, 1) end
end

-- Whether another relay has sent the same since this one looked; the rule is that of core/coalesce.py.
local function is_old_news(one, last)
  local heartbeat = given.heartbeats[one.environment]
  if not (heartbeat and last and last[1] == one.mark) or known[one.key] then
    return false
  end
  local is_time = one.captured_at - last[2] >= heartbeat or last[2] > one.captured_at + AHEAD
  return not (heartbeat > 0 and is_time)
end

local function pass_over(one, last)
  post(one.environment, 'captured', '', 1)
  post(one.environment, 'skipped', 'unchanged', 1)
  amend(last[3], function(entry)
    entry[ENTRY_UNCHANGED], entry[ENTRY_UNCHANGED_AT] = entry[ENTRY_UNCHANGED] + 1, one.captured_at
  end)
end

for index, one in ipairs(given.events) do
  local is_remembered = not forgetful[one.environment]
  local last = is_remembered and row('sent:' .. one.environment, one.who)
  if is_old_news(one, last) then
    pass_over(one, last)
  else
    local number, event = store(one, ARGV[index + 1], given.latest[one.environment] and 1 or 0)
    if number then
      start_waiting(number, event, event[SINCE])
      post(one.environment, 'day', one.day, 1)
      stored[#stored + 1] = event
      if is_remembered then remember(number, one, last) end
    end
  end
end
for index, one in ipairs(given.letters) do
  local number, event = store(one, ARGV[#given.events + index + 1], 0)
  if number then bury(number, event, event[SINCE], one.reason, one.detail) end
end
carry_out()

-- The journal.

local noted = {}
for _, entry in ipairs(given.entries) do
  local number
  if entry[8] ~= '' then
    number = numbers[entry[8]]
  elseif not is_forgotten(entry[1], entry[3]) then
    number = next_name()
  end
  if number then noted[number] = entry end
  numbers[entry[8]] = nil
end
local order = {}
for number in pairs(noted) do order[#order + 1] = number end
table.sort(order)
for _, number in ipairs(order) do
  local entry = noted[number]
  local state = given.states[entry[STATE]]
  if redis.call('HINCRBY', at .. 'states', state, 1) == 1 then
    local properties = ARGV[#given.events + #given.letters + entry[STATE] + 1]
    redis.call('HSET', at .. 'properties', state, properties)
    count('meta', 'journal_bytes', STATE_BYTES + #properties)
  end
  entry[STATE] = state
  later('HSET', 'journal', number, cmsgpack.pack(entry))
  later('RPUSH', 'journal:order', number)
  count('meta', 'journal_bytes', ENTRY_BYTES)
end
carry_out()
local have, most = redis.call('HLEN', at .. 'journal'), #order + SLICE
-- The numbers of what was forgotten stay in the order until they are the oldest; no more than MOST of them.
local listed = redis.call('LLEN', at .. 'journal:order') - MOST
while most > 0 and (math.max(have, listed) > given.journal_entries or fact('journal_bytes') > given.journal_bytes) do
  local oldest = redis.call('LPOP', at .. 'journal:order')
  if not oldest then break end
  listed = listed - 1
  local entry = row('journal', oldest)
  if entry then
    remove_entry(oldest, entry)
    carry_out()
    have = have - 1
    most = most - 1
  end
end

-- The pressure valve: of an identity that waits in a lane that is behind the newest event takes the first one's place.
-- A call lets go of a slice of the oldest.

local function supersede(event)
  local waiting = {}
  local found = redis.call('ZRANGE', at .. place(event), 0, SLICE - 1)
  local last = redis.call('ZRANGE', at .. place(event), -1, -1)[1]
  if found[#found] ~= last then found[#found + 1] = last end
  for index, one in ipairs(rows('waiting', found)) do
    if one[TOKEN] == '' then waiting[#waiting + 1] = {found[index], one, due_at(found[index], one)} end
  end
  local newest = table.remove(waiting)
  for _, older in ipairs(waiting) do
    newest[3] = math.min(newest[3], older[3])
    drop_waiting(older[1], older[2], 'superseded', '')
    amend(older[1], function(entry) entry[ENTRY_GONE] = 'superseded' end)
  end
  if newest then redis.call('ZADD', at .. 'due:' .. event[LANE], text(newest[3]), newest[1]) end
end

local seen = {}
for _, event in ipairs(stored) do
  if event[REPLACEABLE] == 1 and behind[event[LANE]] and not seen[place(event)] then
    seen[place(event)] = true
    supersede(event)
  end
end
carry_out()

-- Who was used least lately makes room, to the hour; a call forgets a slice more than came, where that became less.

local function evict(environment, excess)
  excess = math.min(excess, #given.events + SLICE)
  if excess <= 0 then return end
  local gone = redis.call('ZPOPMIN', at .. 'used:' .. environment, excess)
  for index = 1, #gone, 2 do later('HDEL', 'sent:' .. environment, gone[index]) end
  count('memories', environment, -#gone / 2)
  carry_out()
end

if is_more_than_a_tally then
  for environment, limit in pairs(given.remember) do
    evict(environment, redis.call('HLEN', at .. 'sent:' .. environment) - limit)
  end
  local total, largest, entries = 0, nil, 0
  local memories = redis.call('HGETALL', at .. 'memories')
  for index = 1, #memories, 2 do
    local each = tonumber(memories[index + 1])
    total = total + each
    if each > entries then largest, entries = memories[index], each end
  end
  if largest then evict(largest, total - given.memory_entries) end
  trim_dead_letters()
end

for _, repeats in ipairs(given.repeats) do
  local sent = row('sent:' .. repeats.environment, repeats.who)
  if sent then
    redis.call('ZADD', at .. 'used:' .. repeats.environment, math.floor(repeats.at / 3600), repeats.who)
    amend(sent[3], function(entry)
      entry[ENTRY_UNCHANGED], entry[ENTRY_UNCHANGED_AT] = entry[ENTRY_UNCHANGED] + repeats.times, repeats.at
    end)
  end
end
for _, total in ipairs(given.tally) do
  post(total.environment, 'captured', '', total.count)
  post(total.environment, total.book, total.reason, total.count)
end
carry_out()
return {'stored'}
