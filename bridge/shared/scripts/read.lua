-- Read a document. KEYS: the document. ARGV: the version that the caller knows, the most bytes that it accepts.
-- Returns the version (0 if there is no document, -1 if it is not one of the bridge's), and the bytes, or false and their
-- number if there are too many; the version alone if the caller knows it.
local found = redis.call('HSTRLEN', KEYS[1], 'version') < 16 and redis.call('HGET', KEYS[1], 'version')
found = found or (redis.call('EXISTS', KEYS[1]) == 0 and '0')
local version = found and string.match(found, '^%d+$') and tonumber(found) or -1
if version == tonumber(ARGV[1]) then return {version} end
local size = redis.call('HSTRLEN', KEYS[1], 'data')
if size > tonumber(ARGV[2]) then return {version, false, size} end
return {version, redis.call('HGET', KEYS[1], 'data')}
