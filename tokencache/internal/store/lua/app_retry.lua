-- Ask for the right to try again a grant whose death is doubted. One in a while has it.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that asks
-- ARGV[3]  ms until the next may
-- ARGV[4]  ms for which deaths are doubted
-- returns  {status, now, state}: "ok" (also when nothing is doubted any more), "wait"
local r, now = app_state(KEYS[1])
if r.change_id == ARGV[1] or not r.mass_at or now - num(r.mass_at) >= num(ARGV[4]) then return reply('ok', now, r) end
if num(r.mass_try_at) > now then return reply('wait', now, r) end
change(KEYS[1], 'retry', now, r, ARGV[1], ARGV[2], { mass_try_at = int(now + num(ARGV[3])) })
return reply('ok', now, r)
