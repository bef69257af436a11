-- Store a journal at its own size. Redis gives a growing stream 4 KB at once, and keeps the
-- room of entries that were trimmed: most of what a grant that nobody uses would take.
-- KEYS[1]  journal (STREAM)
-- returns  1, or 0 if there is none. A repeat changes nothing.
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
if #entries == 0 then return 0 end
redis.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end
redis.call('RESTORE', KEYS[1], 0, redis.call('DUMP', KEYS[1]), 'REPLACE')
return 1
