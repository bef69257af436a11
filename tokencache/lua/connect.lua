-- Store the first pair of a new consent. Consent wins over everything older.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  spare: sealed pair (STRING)
-- KEYS[4]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  id of this change
-- ARGV[4]  who connects
-- ARGV[5]  the new epoch, which the pair is sealed with
-- ARGV[6]  sealed pair
-- ARGV[7…] record fields of the pair: name, value, …
-- returns  {status, now, record, ""}: "ok", "moved" (the stored epoch is not older:
--          seal again with a later one)
local r, now = load(KEYS[1]), now_ms()
if r.commit_id == ARGV[3] then return reply('ok', now, r) end -- a repeat: its reply was lost
if num(r.epoch) >= num(ARGV[5]) then return reply('moved', now, r) end

local set = {}
for i = 7, #ARGV, 2 do set[ARGV[i]] = ARGV[i + 1] end
set.epoch, set.gen = ARGV[5], int(num(r.gen) + 1)
set.state, set.reason, set.by, set.commit_id = 'active', '', ARGV[4], ARGV[3]
clear_claim(set)
clear_failure(set)
clear_rejects(set, r)
if r.warned_at then set.warned_at = '' end
save(KEYS[1], r, set)
redis.call('SET', KEYS[2], ARGV[6])
redis.call('DEL', KEYS[3])
return reply('ok', now, announce(KEYS[4], ARGV[2], ARGV[1], 'connect', now, r, ARGV[4], '', ARGV[6]))
