-- Read a document. KEYS: the document. ARGV: the version that is known, the most bytes that are wanted.
-- Returns its version (0: there is none), its bytes, or how many they are where they are too many; neither where the
-- known version is still the present one.
local found = redis.call('HSTRLEN', KEYS[1], 'version') < 16 and redis.call('HGET', KEYS[1], 'version')
found = found or (redis.call('EXISTS', KEYS[1]) == 0 and '0')
local version = found and string.match(found, '^%d+$') and tonumber(found) or -1
if version == tonumber(ARGV[1]) then return {version} end
local size = redis.call('HSTRLEN', KEYS[1], 'data')
if size > tonumber(ARGV[2]) then return {version, false, size} end
return {version, redis.call('HGET', KEYS[1], 'data')}
