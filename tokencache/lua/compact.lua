-- Store a journal at its own size. Redis gives a growing stream 4 KB at once, which is most of
-- what a grant that nobody uses would take.
-- KEYS[1]  journal (STREAM)
-- returns  1, or 0 if there is none. A repeat changes nothing.
local dump = redis.call('DUMP', KEYS[1])
if not dump then return 0 end
redis.call('RESTORE', KEYS[1], 0, dump, 'REPLACE')
return 1
