-- Give back the right to probe the app, or its host (see app.lua): no exchange was made, or it said nothing about the client.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that had it
-- ARGV[3]  id of the probe
-- ARGV[4]  ms until the next probe
-- returns  {"ok", now, state}; a repeat, or one that comes late, changes nothing
local r, now = app_state(KEYS[1])
if scope(r).probe_id ~= ARGV[3] then return reply('ok', now, r) end
change(KEYS[1], 'unprobed', now, r, ARGV[1], ARGV[2], {
  probe_by = '', probe_id = '', probe_at = int(now + num(ARGV[4])),
})
return reply('ok', now, r)
