-- Give Redis back what it lost (failover, restore of a backup, FLUSHALL) from a
-- worker's memory.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  journal (STREAM)
-- KEYS[4]  spare: sealed pair (STRING), which a tombstone ends
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  holder's name
-- ARGV[4]  ms in which nobody presents the restored generation, so that a worker
--          that remembers a newer one can say so
-- ARGV[5]  sealed pair; empty for a tombstone
-- ARGV[6]  ms for which a tombstone stands
-- ARGV[7]  SHA-1 of the sealed pair beside a damaged record, which the caller has found to be no
--          later than its own; "" at first
-- ARGV[8…] the whole record: name, value, …
-- returns  {status, now, record, sealed pair if moved}: "ok", "moved" (what is
--          stored is as new or newer; a repeat gets this too), "newer" (a later
--          version wrote the record), "judge" (the record is damaged: look at the pair beside it)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad == 'newer' then return reply(bad, now, {}) end
local beside = bad and pair_of(KEYS[2]) or ''
if beside ~= '' and redis.sha1hex(beside) ~= ARGV[7] then return reply('judge', now, {}, beside) end
if bad then r = {} end -- damaged: what is remembered takes its place
local set = {}
for i = 8, #ARGV, 2 do set[ARGV[i]] = ARGV[i + 1] end
local tombstone = set.state == 'disconnected'
if set.gen == '' then set.gen = '0' end -- of a grant that nobody remembered
if r.gen and not newer(r, num(set.epoch), num(set.gen), num(set.rev)) then
  local lost = ARGV[5] ~= '' and num(set.epoch) == num(r.epoch) and num(set.gen) == num(r.gen)
    and set.rt_fp == (r.rt_fp or '') and pair_of(KEYS[2]) == ''
  if not lost then return reply('moved', now, r, pair_of(KEYS[2])) end
  set = {} -- the record is as good as the caller's, but has lost its pair
end
if set.state == 'active' then
  set.retry_at = int(math.max(num(set.retry_at), now + num(ARGV[4])))
end
if bad then redis.call('DEL', KEYS[1]) end
if bad or r.state == 'disconnected' then redis.call('PERSIST', KEYS[1]); redis.call('PERSIST', KEYS[3]) end
r.rev = set.rev or r.rev -- save counts on from there: every worker sees a newer state
save(KEYS[1], r, set)
if ARGV[5] ~= '' then redis.call('SET', KEYS[2], ARGV[5]) else redis.call('DEL', KEYS[2]) end
local record = announce(KEYS[3], ARGV[2], ARGV[1], 'restore', now, r, ARGV[3], '', ARGV[5], set.commit_id)
if tombstone then
  redis.call('DEL', KEYS[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
return reply('ok', now, record)
