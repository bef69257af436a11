-- Ask for the right to try whether the provider, or its host (see app.lua), accepts the client again.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change, and of the probe
-- ARGV[2]  name of the process that asks
-- ARGV[3]  ms after which another process may, should nothing be heard
-- ARGV[4]  ms by which a tenant that is known as refused comes later than others; 0 for others
-- returns  {status, now, state}: "ok" (probe, or the circuit is closed), "wait" (not yet, or
--          another process does)
local r, now = app_state(KEYS[1])
local s = scope(r)
if s.circuit ~= 'open' or s.probe_id == ARGV[1] then return reply('ok', now, r) end
if num(s.probe_at) + num(ARGV[4]) > now then return reply('wait', now, r) end
change(KEYS[1], 'probe', now, r, ARGV[1], ARGV[2], {
  probe_by = ARGV[2], probe_id = ARGV[1], probe_at = int(now + num(ARGV[3])),
})
return reply('ok', now, r)
