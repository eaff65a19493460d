-- A password was right: its address's failures are forgotten, and its attempt is none of all. KEYS: as in attempt.lua.
-- ARGV: the address, how many addresses are known, how many ms.
if redis.call('DEL', KEYS[1]) == 1 and redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HINCRBY', KEYS[2], 'count', -1) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[2]) - 1)
redis.call('PEXPIRE', KEYS[3], ARGV[3])
