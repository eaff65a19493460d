-- Store a response, or delete it if its input is ''. KEYS: the responses' prefix, which ends with a colon; the prefix of
-- the index.
-- ARGV: the id, the owner, the previous id ('' for none), its input, the response object, after how many ms it expires,
-- the most responses, the most bytes. If there are too many, the oldest response of the owner with the most is deleted.
-- The index: <prefix> is a sorted set of ids by time, <prefix>:of:<owner> that of one owner's ids; <prefix>:known is a
-- hash of '<bytes> <owner>' by id, <prefix>:sizes and <prefix>:counts are hashes of bytes and numbers by owner, and
-- <prefix>:bytes is the total number of bytes.
local order = KEYS[2]
local known, sizes, counts, bytes = order .. ':known', order .. ':sizes', order .. ':counts', order .. ':bytes'

local function subtract(table, owner, by)
  if redis.call('HINCRBY', table, owner, -by) <= 0 then redis.call('HDEL', table, owner) end
end

local function remove(id)
  redis.call('DEL', KEYS[1] .. id)
  redis.call('ZREM', order, id)
  local size, owner = string.match(redis.call('HGET', known, id) or '', '^(%d+) (.*)$')
  if not size then return end
  redis.call('HDEL', known, id)
  redis.call('ZREM', order .. ':of:' .. owner, id)
  subtract(sizes, owner, size)
  subtract(counts, owner, 1)
  if redis.call('DECRBY', bytes, size) <= 0 then redis.call('DEL', bytes) end
end

-- The owner with the most: `last`, who has just stored a response, unless that one has less than an equal share.
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
-- Remove responses that have expired from the index, a few each time.
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
  if oldest == nil then -- the index is incomplete: the oldest response of all is deleted
    redis.call('HDEL', sizes, who)
    redis.call('HDEL', counts, who)
    oldest = redis.call('ZRANGE', order, 0, 0)[1]
  end
  remove(oldest)
  sum, number = tonumber(redis.call('GET', bytes)) or 0, redis.call('ZCARD', order)
end
if number == 0 then redis.call('DEL', bytes, known, sizes, counts) end
