-- Put a value that is sealed anew in the place of what it was, if that is still there. A commit, a consent or
-- a restore that came in between wins: this writes nothing then.
-- KEYS[1]  sealed pair, or spare (STRING); or unread answers (LIST)
-- ARGV[1]  the value as it was read
-- ARGV[2]  the same, sealed anew
-- returns  1: it is there now, by this call or an earlier one; 0: something else is, or nothing
local now = redis.pcall('GET', KEYS[1])
if type(now) == 'string' then
  if now == ARGV[2] then return 1 end
  if now ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
  return 1
end
if not now then return 0 end -- there is no such key
local kept = redis.pcall('LRANGE', KEYS[1], 0, -1)
if kept.err then return 0 end
for i, one in ipairs(kept) do
  if one == ARGV[2] then return 1 end
  if one == ARGV[1] then
    redis.call('LSET', KEYS[1], i - 1, ARGV[2])
    return 1
  end
end
return 0
