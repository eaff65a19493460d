-- Write a document, if its version is still the one that the change was made to. KEYS: the document.
-- ARGV: that version, the new one, the bytes, the channel for news, the news. Returns 1 if it was written, otherwise 0.
local found = redis.call('HSTRLEN', KEYS[1], 'version') < 16 and redis.call('HGET', KEYS[1], 'version')
found = found or (redis.call('EXISTS', KEYS[1]) == 0 and '0')
local version = found and string.match(found, '^%d+$') and tonumber(found) or -1
if version ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
