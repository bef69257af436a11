-- Note that an operator accepts that what Redis has lost is gone: a tenant without a grant has none.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  who accepts it
-- returns  {"ok", now, state}; a repeat changes nothing
local r, now = app_state(KEYS[1])
if not r.lost_at or r.lost_at == '' then return reply('ok', now, r) end
change(KEYS[1], 'loss_accepted', now, r, ARGV[1], ARGV[2], { lost_at = '' })
return reply('ok', now, r)
