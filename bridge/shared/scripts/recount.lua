-- Write a history of the statistics, as a process read it last, unless there is one. KEYS: the leaves, the number of each
-- process's last share. ARGV: the epoch, which names this history; the number of leaves, their paths and rows, and the
-- processes and the numbers of their last shares. Returns the epoch of the history that is there now.
local epoch = redis.call('HGET', KEYS[2], '')
if epoch then return epoch end
redis.call('HSET', KEYS[2], '', ARGV[1])
if tonumber(ARGV[2]) == 0 then return ARGV[1] end
redis.call('DEL', KEYS[1])
local last = 2 + 2 * tonumber(ARGV[2])
for at = 3, last, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
for at = last + 1, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
return ARGV[1]
