-- Keep a response. KEYS: the responses' prefix, with a colon at its end; their order (a sorted set of ids by time);
-- their bytes together. ARGV: the id, whose it is, the id before it ('' for none), its input, the object, how many ms
-- it is kept, the most responses, the most bytes. Without input the response is forgotten.
local function size(id) return redis.call('HSTRLEN', KEYS[1] .. id, 'input') + redis.call('HSTRLEN', KEYS[1] .. id, 'response') end

local function remove(id)
  if redis.call('ZREM', KEYS[2], id) == 1 then redis.call('DECRBY', KEYS[3], size(id)) end
  redis.call('DEL', KEYS[1] .. id)
end

local id, place = ARGV[1], KEYS[1] .. ARGV[1]
remove(id)
if ARGV[4] == '' then return end
local time = redis.call('TIME')
redis.call('HSET', place, 'owner', ARGV[2], 'previous', ARGV[3], 'input', ARGV[4], 'response', ARGV[5])
redis.call('PEXPIRE', place, ARGV[6])
redis.call('ZADD', KEYS[2], string.format('%.0f', time[1] * 1000000 + time[2]), id)
local bytes = redis.call('INCRBY', KEYS[3], size(id))
while redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[7]) or (tonumber(bytes) > tonumber(ARGV[8]) and redis.call('ZCARD', KEYS[2]) > 0) do
  remove(redis.call('ZRANGE', KEYS[2], 0, 0)[1])
  bytes = redis.call('GET', KEYS[3]) or 0
end
