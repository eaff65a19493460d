-- Give Redis the statistics again that it has lost, as a process has last read them. KEYS: the leaves, the numbers of
-- the processes' shares. ARGV: the epoch, which names this history of the statistics; how many leaves there are, these
-- as path and row, and the processes with the numbers of their shares. Returns the epoch that holds now.
local epoch = redis.call('HGET', KEYS[2], '')
if epoch then return epoch end
redis.call('HSET', KEYS[2], '', ARGV[1])
if tonumber(ARGV[2]) == 0 then return ARGV[1] end
redis.call('DEL', KEYS[1])
local last = 2 + 2 * tonumber(ARGV[2])
for at = 3, last, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
for at = last + 1, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
return ARGV[1]
