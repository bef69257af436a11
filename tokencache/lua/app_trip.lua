-- Open an app's circuit, since the provider refused its client; or put the next probe off,
-- if it is open.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  who was refused
-- ARGV[3]  error (class/code/status)
-- ARGV[4]  opened_at of the circuit as it was before the exchange; 0 if it was closed. Of those
--          that were under way when it opened only the first counts
-- ARGV[5…] after the n-th refusal in a row: ms until the next probe; the last holds for all
--          that follow
-- returns  {"ok", now, state}
local r, now = hash(KEYS[1]), now_ms()
if r.change_id == ARGV[1] then return reply('ok', now, r) end -- a repeat: its reply was lost
local open = r.circuit == 'open'
if open and num(r.opened_at) ~= num(ARGV[4]) then return reply('ok', now, r) end
local n = open and num(r.probes) + 1 or 1
local set = {
  circuit = 'open', error = ARGV[3], probes = int(n), probe_by = '',
  probe_at = int(now + num(ARGV[math.min(4 + n, #ARGV)])),
}
if not open then set.opened_at = int(now) end
change(KEYS[1], open and 'refused' or 'open', now, r, ARGV[1], ARGV[2], set)
return reply('ok', now, r)
