-- Write a document as it was last known, if Redis has none, or an older one after a restart. KEYS: the document.
-- ARGV: the version, the bytes, the channel for news, the news. Returns 1 if it was written, otherwise 0.
local found = redis.call('HSTRLEN', KEYS[1], 'version') < 16 and redis.call('HGET', KEYS[1], 'version')
found = found or (redis.call('EXISTS', KEYS[1]) == 0 and '0')
local version = found and string.match(found, '^%d+$') and tonumber(found) or -1
if version < 0 or version >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
