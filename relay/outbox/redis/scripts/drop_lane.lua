-- Drop a slice of what waits in a lane and is not leased; reply with how many.

free_first()
local dropped = unclaimed('due:' .. given.lane, '-inf', '+inf', SLICE)
for _, pair in ipairs(dropped) do drop_waiting(pair[1], pair[2], 'dropped', 'orphaned') end
carry_out()
return #dropped
