-- Keep a response. KEYS: the responses' prefix, with a colon at its end; the prefix of what is known of all of them.
-- ARGV: the id, whose it is, the id before it ('' for none), its input, the object, how many ms it is kept, the most
-- responses, the most bytes. Without input the response is forgotten. Where it is too much, the oldest one goes of whoever
-- has the most.
-- Of all: <prefix> is a sorted set of ids by time, <prefix>:of:<owner> the same of one owner's; hashes are
-- <prefix>:known of '<bytes> <owner>' by id, <prefix>:sizes and <prefix>:counts of bytes and numbers by owner;
-- <prefix>:bytes is the sum of bytes.
local order = KEYS[2]
local known, sizes, counts, bytes = order .. ':known', order .. ':sizes', order .. ':counts', order .. ':bytes'

local function less(table, owner, by)
  if redis.call('HINCRBY', table, owner, -by) <= 0 then redis.call('HDEL', table, owner) end
end

local function remove(id)
  redis.call('DEL', KEYS[1] .. id)
  redis.call('ZREM', order, id)
  local size, owner = string.match(redis.call('HGET', known, id) or '', '^(%d+) (.*)$')
  if not size then return end
  redis.call('HDEL', known, id)
  redis.call('ZREM', order .. ':of:' .. owner, id)
  less(sizes, owner, size)
  less(counts, owner, 1)
  if redis.call('DECRBY', bytes, size) <= 0 then redis.call('DEL', bytes) end
end

-- Whoever has the most of what is too much: the one who has come last, as long as that is no less than a fair share.
local function greatest(table, all, last)
  local most, who = tonumber(redis.call('HGET', table, last) or 0) or 0, last
  if most * redis.call('HLEN', table) >= all then return last end
  local found = redis.call('HGETALL', table)
  for at = 1, #found, 2 do
    local its = tonumber(found[at + 1]) or 0
    if its > most then most, who = its, found[at] end
  end
  return who
end

local id, owner, place = ARGV[1], ARGV[2], KEYS[1] .. ARGV[1]
remove(id)
if ARGV[4] == '' then return end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- Those that have expired by themselves, a few each time.
local expired = redis.call('ZRANGEBYSCORE', order, '-inf', string.format('%.0f', now - ARGV[6] * 1000), 'LIMIT', 0, 20)
for _, each in ipairs(expired) do remove(each) end

redis.call('HSET', place, 'owner', owner, 'previous', ARGV[3], 'input', ARGV[4], 'response', ARGV[5])
redis.call('PEXPIRE', place, ARGV[6])
redis.call('ZADD', order, string.format('%.0f', now), id)
redis.call('ZADD', order .. ':of:' .. owner, string.format('%.0f', now), id)
local size = #ARGV[4] + #ARGV[5]
redis.call('HSET', known, id, string.format('%.0f', size) .. ' ' .. owner)
redis.call('HINCRBY', sizes, owner, size)
redis.call('HINCRBY', counts, owner, 1)
local sum = redis.call('INCRBY', bytes, size)
local number = redis.call('ZCARD', order)
while number > 0 and (number > tonumber(ARGV[7]) or sum > tonumber(ARGV[8])) do
  local who = sum > tonumber(ARGV[8]) and greatest(sizes, sum, owner) or greatest(counts, number, owner)
  local oldest = redis.call('ZRANGE', order .. ':of:' .. who, 0, 0)[1]
  if oldest == nil then -- what is known of it is not complete: whoever it is, the oldest of all goes
    redis.call('HDEL', sizes, who)
    redis.call('HDEL', counts, who)
    oldest = redis.call('ZRANGE', order, 0, 0)[1]
  end
  remove(oldest)
  sum, number = tonumber(redis.call('GET', bytes)) or 0, redis.call('ZCARD', order)
end
if number == 0 then redis.call('DEL', bytes, known, sizes, counts) end
