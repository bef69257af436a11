-- Note that the provider refused an exchange as if it refused the client. That is one
-- tenant's trouble until enough different tenants are refused with no acceptance in between:
-- then the circuit opens, of the app or of its host (see app.lua). While it is open, put the next probe off.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that was refused
-- ARGV[3]  error (class/code/status)
-- ARGV[4]  fingerprint of the tenant, or for the app of the host if there are several (8 hex)
-- ARGV[5]  id of the probe that this exchange was; empty for none. Of the exchanges that were
--          under way when the circuit opened none counts as a probe
-- ARGV[6]  this many different tenants open the circuit
-- ARGV[7]  "first": one is enough if the provider was never seen to accept this app
-- ARGV[8]  "again": the tenant was refused before, so that its probe says nothing new
-- ARGV[9]  number of waits
-- ARGV[10…] after the n-th refusal in a row: ms until the next probe; the last wait holds for
--          all that follow
-- returns  {"ok", now, state}
local r, now = app_state(KEYS[1])
if r.change_id == ARGV[1] then return reply('ok', now, r) end -- a repeat: its reply was lost
local s = scope(r)
if s.brake then return reply('ok', now, r) end -- it has stopped already, and refused says who goes on
local open = s.circuit == 'open'
local probed = open and ARGV[5] ~= '' and s.probe_id == ARGV[5]
local refused, n = remember(s.refused, ARGV[4])
if refused == s.refused and not probed then return reply('ok', now, r) end
local set, kind = { refused = refused, error = ARGV[3] }, 'refused'
local function wait(k) return int(now + num(ARGV[9 + math.min(k, num(ARGV[9]))])) end
if probed then
  local k = num(s.probes) + (ARGV[8] == 'again' and 0 or 1)
  set.probes, set.probe_at, set.probe_by, set.probe_id = int(k), wait(k), '', ''
elseif open then
  set.error = nil -- the one that opened it says more
elseif n >= num(ARGV[6]) or (ARGV[7] == 'first' and not s.accepted_at) then
  kind = 'open'
  set.circuit, set.opened_at, set.probes, set.probe_at = 'open', int(now), '1', wait(1)
else
  kind = 'suspected'
end
change(KEYS[1], kind, now, r, ARGV[1], ARGV[2], set)
return reply('ok', now, r)
