-- Record that an instance is alive. KEYS: the instances. ARGV: its name, after how many ms a silent one counts as dead,
-- after how many ms it is forgotten. Returns the names of those that are alive. A key of another type is replaced.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now))
local alive, all = {}, redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local silent = now - (tonumber(all[at + 1]) or 0)
  if silent < tonumber(ARGV[2]) then
    alive[#alive + 1] = all[at]
  elseif silent > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return alive
