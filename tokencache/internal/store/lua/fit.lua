-- Ask whether this client may do what workers do: Redis knows the commands, and its user the rights.
-- Nothing is executed.
-- KEYS[1]  grant record (HASH)
-- ARGV     command, its key or channel, further arguments, "", command, …
-- returns  {what is not allowed: "command key", …}; {"old"} before Redis 7.0
if not redis.acl_check_cmd then return { 'old' } end
local denied, call = {}, {}
for i = 1, #ARGV do
  if ARGV[i] ~= '' then
    call[#call + 1] = ARGV[i]
  else
    local ok, may = pcall(redis.acl_check_cmd, unpack(call))
    if not ok or not may then denied[#denied + 1] = call[1] .. ' ' .. (call[2] or '') end
    call = {}
  end
end
return denied
