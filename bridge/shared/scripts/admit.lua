-- Take one request's slot of a key. KEYS: the key's window, its running calls, the instances.
-- ARGV: this instance, its running calls of the key with this one, requests per window, the window's length in ms,
-- concurrent calls, after how many ms a silent instance counts as dead, how long a count is kept in ms.
-- Returns '' or the limit that is reached, and the remaining requests, the ms until all are free again, and the ms
-- until the next one is.
local me, mine = ARGV[1], tonumber(ARGV[2])
local rpm, length, concurrency = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function count(running)
  if running > 0 then
    redis.call('HSET', KEYS[2], me, running)
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
  else
    redis.call('HDEL', KEYS[2], me)
  end
end

-- The window is a list of the times at which its requests leave it, the first one first.
local last = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0) or 0
if last > now + 2 * length then -- the clock was set back
  redis.call('DEL', KEYS[1])
  last = 0
end
while true do
  local first = redis.call('LINDEX', KEYS[1], 0)
  if not first or (tonumber(first) or 0) > now then break end
  redis.call('LPOP', KEYS[1])
end
local used = redis.call('LLEN', KEYS[1])
local left = used < rpm and 0 or tonumber(redis.call('LINDEX', KEYS[1], used - rpm)) - now
local reset = used > 0 and last - now or 0

local others, calls = 0, redis.call('HGETALL', KEYS[2])
for at = 1, #calls, 2 do
  if calls[at] ~= me then
    local beat = tonumber(redis.call('HGET', KEYS[3], calls[at]) or 0) or 0
    if now - beat < tonumber(ARGV[6]) then
      others = others + (tonumber(calls[at + 1]) or 0)
    else
      redis.call('HDEL', KEYS[2], calls[at])
    end
  end
end
if others + mine > concurrency then
  count(mine - 1)
  return {'concurrency', math.max(rpm - used, 0), reset, left}
end
if used >= rpm then
  count(mine - 1)
  return {'rpm', 0, reset, left}
end
redis.call('RPUSH', KEYS[1], string.format('%.0f', math.max(last, now + length)))
redis.call('PEXPIRE', KEYS[1], 2 * length)
count(mine)
return {'', rpm - used - 1, length, 0}
