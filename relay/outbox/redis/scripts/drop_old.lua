-- Drop a slice of the dead letters that were made too long ago; reply with how many.

free_first()
local old = redis.call('ZRANGEBYSCORE', at .. 'dead:time', '-inf', '(' .. text(given.before + skew), 'LIMIT', 0, SLICE)
for index, letter in ipairs(rows('dead', old)) do drop_letter(old[index], letter, 'dead_letter_expired') end
carry_out()
return #old
