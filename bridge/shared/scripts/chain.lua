-- Read a response and those that it continues, the newest first. KEYS: the responses' prefix, which ends with a colon.
-- ARGV: the id, the owner, how many to read at most, and the most bytes that one may have. Returns for each its id, the
-- previous id ('' for none), input and response; the last id stands alone if there is no such response of the owner.
local found, id = {}, ARGV[1]
for _ = 1, tonumber(ARGV[3]) do
  local place = KEYS[1] .. id
  found[#found + 1] = id
  if redis.call('HSTRLEN', place, 'input') + redis.call('HSTRLEN', place, 'response') > tonumber(ARGV[4]) then
    return found
  end
  local it = redis.call('HMGET', place, 'owner', 'previous', 'input', 'response')
  if not it[1] or it[1] ~= ARGV[2] or not it[3] or not it[4] then return found end
  found[#found + 1] = it[2] or ''
  found[#found + 1] = it[3]
  found[#found + 1] = it[4]
  id = it[2] or ''
  if id == '' then return found end
end
return found
