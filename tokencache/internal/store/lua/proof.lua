-- Make the proof key anew where it is none: of another type, or so short that it can be guessed.
-- KEYS[1]  proof key (STRING)
-- ARGV[1]  the key to put there
-- returns  the key as it is then; a repeat changes nothing
local key = redis.pcall('GET', KEYS[1])
if type(key) == 'string' and #key >= 16 then return key end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
