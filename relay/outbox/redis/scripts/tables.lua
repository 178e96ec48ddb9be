-- What the other scripts begin with: the facts of one outbox, and the changes to it that several of them share.
-- A script reads and checks first; its first write is refused when Redis has no memory left, and none after that.

if redis.replicate_commands then redis.replicate_commands() end -- before 7.0 a script that asks for the time needs it

local at = string.sub(KEYS[1], 1, -5) -- without "meta"
local given = cmsgpack.unpack(ARGV[1])
if redis.call('HGET', at .. 'meta', 'installation') ~= given.installation then
  return redis.error_reply('REPLACED by another outbox')
end

local AHEAD = 600 -- seconds; what is due later than that is due now: a clock jumped back
local SLICE = 500
local MOST = 1000 -- arguments of one command, of which Lua's stack has room for some thousands
-- Seconds after which nobody asks for a lease that was neither renewed nor settled, or was settled whole.
local LEASE_KEPT, SETTLED_KEPT = 86400, 60
-- What things take beside their own bytes, measured; an entry with as many answers as are kept.
local EVENT_BYTES, LATEST_BYTES, ENTRY_BYTES, STATE_BYTES = 650, 200, 310, 130

-- A waiting event, and first of all a dead letter, which has three more. A later version's fields come after all of these:
-- an older relay's scripts carry them along.
local VERSION, SIZE, BYTES, SINCE, ATTEMPTS, LANE, ENVIRONMENT, KEY, WHO, TOKEN, REPLACEABLE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local MADE_AT, REASON, DETAIL = 12, 13, 14

-- Seconds by which this clock is ahead of the caller's, rounded: every time that is stored is this clock's.
local clock = redis.call('TIME')
local skew = math.floor(clock[1] + clock[2] / 1e6 - given.sent + 0.5)
local now = (given.now or given.sent) + skew

local function name(number) return string.format('%012.0f', number) end

local function text(number) return string.format('%.17g', number) end

-- Many members in few commands.

local queued, commands = {}, {}

local function later(command, key, argument, another)
  local id = command .. key
  local arguments = queued[id]
  if not arguments then
    arguments = {}
    queued[id] = arguments
    commands[#commands + 1] = {command, key, arguments}
  end
  arguments[#arguments + 1] = argument
  if another then arguments[#arguments + 1] = another end
end

-- Pages of something that may be long; each has at most MOST of it.
local function pages(list)
  local start = 1 - MOST
  return function()
    start = start + MOST
    if start <= #list then return start, math.min(start + MOST - 1, #list) end
  end
end

-- The books, and what is kept like them.

local totals = {}

local function count(key, field, change)
  local id = key .. ' ' .. field
  totals[id] = {key, field, (totals[id] and totals[id][3] or 0) + change}
end

local function post(environment, book, reason, change)
  count('books', book .. '\0' .. reason .. '\0' .. environment, change)
end

local function carry_out()
  for _, list in ipairs(commands) do
    for first, last in pages(list[3]) do redis.call(list[1], at .. list[2], unpack(list[3], first, last)) end
  end
  queued, commands = {}, {}
  for _, total in pairs(totals) do
    if total[3] ~= 0 then redis.call('HINCRBY', at .. total[1], total[2], total[3]) end
  end
  totals = {}
end

local function fact(field) return tonumber(redis.call('HGET', at .. 'meta', field) or 0) end

-- A script that frees more than it takes goes on when Redis has no memory left: what is claimed and settled is gone.
local function free_first() redis.call('DEL', KEYS[2]) end

-- Rows of a hash by their fields; false for one that is missing.
local function rows(key, fields)
  local found = {}
  for first, last in pages(fields) do
    for place, packed in ipairs(redis.call('HMGET', at .. key, unpack(fields, first, last))) do
      found[first + place - 1] = packed and cmsgpack.unpack(packed)
    end
  end
  return found
end

local function row(key, field)
  local packed = redis.call('HGET', at .. key, field)
  return packed and cmsgpack.unpack(packed)
end

-- Waiting.

local function level(event) return event[LANE] .. '\0' .. event[ENVIRONMENT] end

local function place(event) return 'latest:' .. level(event) .. '\0' .. event[WHO] end

local function save(number, event) later('HSET', 'waiting', number, cmsgpack.pack(event)) end

local function queue(number, event, due)
  later('ZADD', 'due:' .. event[LANE], text(due), number)
  later('ZADD', 'age:' .. level(event), text(event[SINCE]), number)
  if event[REPLACEABLE] == 1 then later('ZADD', place(event), text(event[SINCE]), number) end
  count('levels', level(event), event[SIZE])
end

local function unqueue(number, event)
  later('ZREM', 'due:' .. event[LANE], number)
  later('ZREM', 'age:' .. level(event), number)
  if event[REPLACEABLE] == 1 then later('ZREM', place(event), number) end
  count('levels', level(event), -event[SIZE])
end

local function start_waiting(number, event, due)
  save(number, event)
  queue(number, event, due)
  post(event[ENVIRONMENT], 'waiting', '', 1)
end

local function stop_waiting(number, event)
  later('HDEL', 'waiting', number)
  unqueue(number, event)
  post(event[ENVIRONMENT], 'waiting', '', -1)
end

-- A lease: the numbers it was taken for and that were not settled, and the last call that settled some, and which.
local function lease_of(token)
  local packed = redis.call('GET', at .. 'lease:' .. token)
  if packed then return unpack(cmsgpack.unpack(packed)) end
  return {}, '', {}
end

local function keep_lease(token, numbers, call, settled)
  local seconds = #numbers > 0 and LEASE_KEPT or SETTLED_KEPT
  redis.call('SET', at .. 'lease:' .. token, cmsgpack.pack({numbers, call, settled}), 'EX', seconds)
end

local function due_at(number, event) return tonumber(redis.call('ZSCORE', at .. 'due:' .. event[LANE], number)) end

local function is_leased(number, event)
  if event[TOKEN] == '' then return false end
  local due = due_at(number, event)
  return now < due and due <= now + AHEAD
end

-- At most *most* of what an order has between two scores, that is not leased.
local function unclaimed(order, low, high, most)
  local found, offset = {}, 0
  while #found < most do
    local numbers = redis.call('ZRANGEBYSCORE', at .. order, low, high, 'LIMIT', offset, SLICE)
    for index, event in ipairs(rows('waiting', numbers)) do
      if #found < most and not is_leased(numbers[index], event) then found[#found + 1] = {numbers[index], event} end
    end
    if #numbers < SLICE then break end
    offset = offset + SLICE
  end
  return found
end

local function erase(number, event)
  later('HDEL', 'events', number)
  later('HDEL', 'keys', event[KEY])
  count('meta', 'bytes', -event[BYTES])
end

-- The change memory. An event that will not reach Heap was not sent, where nothing newer was.

local function forget_sent(environment, who)
  if redis.call('HDEL', at .. 'sent:' .. environment, who) == 0 then return 0 end
  redis.call('ZREM', at .. 'used:' .. environment, who)
  redis.call('HINCRBY', at .. 'memories', environment, -1)
  return 1
end

local function unsay(number, event)
  local sent = row('sent:' .. event[ENVIRONMENT], event[WHO])
  if sent and sent[3] == number then forget_sent(event[ENVIRONMENT], event[WHO]) end
end

local function drop_waiting(number, event, book, reason)
  unsay(number, event)
  stop_waiting(number, event)
  erase(number, event)
  post(event[ENVIRONMENT], book, reason, 1)
end

-- Dead letters.

local function bury(number, event, made_at, reason, detail)
  event[TOKEN], event[REPLACEABLE], event[MADE_AT], event[REASON], event[DETAIL] = '', 0, made_at, reason, detail
  later('HSET', 'dead', number, cmsgpack.pack(event))
  later('ZADD', 'dead:order', number, number)
  later('ZADD', 'dead:time', text(made_at), number)
  count('meta', 'dead_bytes', event[BYTES] + #detail)
  count('meta', 'bytes', #detail)
  post(event[ENVIRONMENT], 'dead_letters', reason, 1)
end

local function unbury(number, letter)
  later('HDEL', 'dead', number)
  later('ZREM', 'dead:order', number)
  later('ZREM', 'dead:time', number)
  count('meta', 'dead_bytes', -letter[BYTES] - #letter[DETAIL])
  count('meta', 'bytes', -#letter[DETAIL])
  post(letter[ENVIRONMENT], 'dead_letters', letter[REASON], -1)
end

local function dead_letter(number, event, reason, detail)
  unsay(number, event)
  stop_waiting(number, event)
  bury(number, event, now, reason, detail)
end

local function drop_letter(number, letter, reason)
  unbury(number, letter)
  erase(number, letter)
  post(letter[ENVIRONMENT], 'dropped', reason, 1)
end

-- The oldest go until the others have room; a few pages in one call, where the room became less.
local function trim_dead_letters()
  carry_out()
  local excess = fact('dead_bytes') - given.dead_bytes
  for _ = 1, 4 do
    if excess <= 0 then break end
    local oldest = redis.call('ZRANGE', at .. 'dead:time', 0, SLICE - 1)
    for index, letter in ipairs(rows('dead', oldest)) do
      if excess <= 0 then break end
      drop_letter(oldest[index], letter, 'dead_letters_full')
      excess = excess - letter[BYTES] - #letter[DETAIL]
    end
    carry_out()
  end
end

-- The journal. An entry: who, environment, at, method, send, reason, state, key, attempts, delivered, unchanged,
-- unchanged_at, gone, and its last answers.
local ENTRY_ATTEMPTS, ENTRY_DELIVERED, ENTRY_UNCHANGED, ENTRY_UNCHANGED_AT, ENTRY_GONE, ENTRY_ANSWERS = 9, 10, 11, 12, 13, 14
local STATE = 7

local function amend(number, change)
  local entry = row('journal', number)
  if entry then
    change(entry)
    redis.call('HSET', at .. 'journal', number, cmsgpack.pack(entry))
  end
end

local function remove_entry(number, entry)
  redis.call('HDEL', at .. 'journal', number)
  count('meta', 'journal_bytes', -ENTRY_BYTES)
  if redis.call('HINCRBY', at .. 'states', entry[STATE], -1) == 0 then
    count('meta', 'journal_bytes', -STATE_BYTES - redis.call('HSTRLEN', at .. 'properties', entry[STATE]))
    redis.call('HDEL', at .. 'states', entry[STATE])
    redis.call('HDEL', at .. 'properties', entry[STATE])
  end
end
