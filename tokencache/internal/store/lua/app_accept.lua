-- Note that the provider has accepted the app's client: the circuit closes, nothing is
-- suspected any more, and the ramp after a pause goes on. Of a host (see app.lua) nothing is left then but a
-- pause that lasts.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that was accepted
-- ARGV[3]  ms that a step of the ramp takes at least
-- ARGV[4]  how many exchanges at once are the top of the ramp
-- ARGV[5]  ms that the top lasts
-- ARGV[6]  "read" if a pair was read, and not only the client accepted
-- ARGV[7]  "revived" if it is that of a grant whose death was doubted
-- ARGV[8]  "several" if tenants have token endpoints at several hosts
-- returns  {"ok", now, state}. Nothing is written where there is nothing to note, so that a
--          repeat changes nothing
local r, now = app_state(KEYS[1])
if r.change_id == ARGV[1] then return reply('ok', now, r) end
local set, kind = {}, nil
if host ~= '' then
  local s = scope(r)
  local paused = num(s.throttled_until) > now
  if not next(s) or (paused and not s.circuit and not s.refused) then return reply('ok', now, r) end
  for k in pairs(s) do set[k] = '' end
  if paused then set.throttled_until, set.changed_at = nil, nil end
  if paused and not s.circuit then set.error = nil end
  change(KEYS[1], s.circuit == 'open' and 'closed' or 'accepted', now, r, ARGV[1], ARGV[2], set)
  return reply('ok', now, r)
end
local read = ARGV[6] == 'read'
if r.brake and not read then return reply('ok', now, r) end -- that is not what stopped it
if read and not r.read_at then
  kind, set.read_at = 'accepted', int(now)
end
if ARGV[8] == 'several' and not r.several then
  kind, set.several = 'accepted', '1'
end
local down = r.down_at
if not r.accepted_at or r.circuit or r.refused or r.limited or r.failing then
  kind = r.circuit == 'open' and 'closed' or down and 'provider_up' or 'accepted'
  set.failing, set.down_at = '', ''
  set.accepted_at, set.circuit, set.opened_at, set.probes, set.probe_at = int(now), '', '', '', ''
  set.probe_by, set.probe_id, set.refused, set.limited, set.brake = '', '', '', '', ''
  if r.circuit or not r.throttled_until then set.error = '' end
end
if ARGV[7] == 'revived' and r.mass_at then
  kind = 'revived'
  set.mass_at, set.mass_try_at, set.deaths, set.deaths_at = '', '', '', ''
  if not r.ramp then set.ramp, set.ramp_at = '4', int(now) end
end
local ramp, since = num(r.ramp), now - num(r.ramp_at)
if ramp > 0 and num(r.throttled_until) <= now and since >= num(ARGV[3]) then
  set.throttled_until, set.error = '', ''
  if ramp < num(ARGV[4]) then
    kind = kind or 'ramp'
    set.ramp, set.ramp_at = int(math.min(2 * ramp, num(ARGV[4]))), int(now)
  elseif since >= num(ARGV[5]) then
    kind = kind or 'ramp'
    set.ramp, set.ramp_at = '', ''
  end
end
if kind then change(KEYS[1], kind, now, r, ARGV[1], ARGV[2], set) end
if down and kind and kind ~= 'provider_up' then tell_app(KEYS[1], 'provider_up', now, text(r)) end
return reply('ok', now, r)
