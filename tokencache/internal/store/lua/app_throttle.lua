-- Note that the provider wishes for a pause. That is one tenant's affair until a second one
-- hears it too, before the first's wait is over and with no acceptance in between: then all
-- of the app's exchanges stop for a while, and begin again with one at a time. A host's (see app.lua) begin
-- again all at once: its tenants come back when each was told to.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that was told
-- ARGV[3]  error (class/code/status)
-- ARGV[4]  fingerprint of the tenant, or for the app of the host if there are several (8 hex)
-- ARGV[5]  ms that a pause lasts
-- returns  {"ok", now, state}: a longer pause that has begun already is kept
local r, now = app_state(KEYS[1])
if r.change_id == ARGV[1] then return reply('ok', now, r) end
local s = scope(r)
local til, paused = now + num(ARGV[5]), num(s.throttled_until)
local who, wait = string.match(s.limited or '', '^(%x+) (%d+)$')
local set, kind = {}, 'limited'
if paused > now or (who and who ~= ARGV[4] and num(wait) > now) then
  if paused >= til then return reply('ok', now, r) end
  kind = 'throttled'
  set = { throttled_until = int(til), limited = '' }
  if host == '' then set.ramp, set.ramp_at = '1', int(til) end
else
  set.limited = ARGV[4] .. ' ' .. int(til)
end
if s.circuit ~= 'open' then set.error = ARGV[3] end
change(KEYS[1], kind, now, r, ARGV[1], ARGV[2], set)
return reply('ok', now, r)
