-- Count an attempt at a password as a failure in advance, unless it comes too early. KEYS: the failures of the address,
-- those of all addresses, the addresses that have logged in before. ARGV: the address; the number of failures after which
-- an address must wait and the longest wait in ms; the same for all addresses; after how many ms failures expire.
-- Returns how many ms to wait, or 0 if the attempt was counted.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function wait(place, first, longest)
  local found = redis.call('HMGET', place, 'count', 'last')
  local beyond = (tonumber(found[1] or 0) or 0) - first
  if beyond < 0 then return 0 end
  return math.max(0, (tonumber(found[2] or 0) or 0) + math.min(1000 * 2 ^ math.min(beyond, 30), longest) - now)
end

local left = wait(KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  left = math.max(left, wait(KEYS[2], tonumber(ARGV[4]), tonumber(ARGV[5])))
end
if left > 0 then return math.ceil(left) end
for at = 1, 2 do
  redis.call('HINCRBY', KEYS[at], 'count', 1)
  redis.call('HSET', KEYS[at], 'last', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[at], ARGV[6])
end
return 0
