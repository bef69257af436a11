-- Note that Redis has lost an app's data: it came back empty, or with another proof key.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  who has noticed it
-- ARGV[3]  birth mark that the caller knew: of the database that is gone
-- ARGV[4]  birth mark of the database as it is now
-- returns  {"ok", now, state}. Of all who notice one loss the first counts; a repeat changes nothing
local r, now = app_state(KEYS[1])
if r.born_before == ARGV[3] or r.change_id == ARGV[1] then return reply('ok', now, r) end
change(KEYS[1], 'data_lost', now, r, ARGV[1], ARGV[2], {
  born = ARGV[4], born_before = ARGV[3], lost_at = int(now),
})
return reply('ok', now, r)
