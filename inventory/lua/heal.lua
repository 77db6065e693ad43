-- Keys: counter, units by buyer, stream.
-- Arguments: the counter's left, pending and epoch as seen before the database was asked
-- ("" for none), the units available there, that row's version, the new epoch.
-- Result: 1 when the counter was set; 0 when it moved meanwhile, or purchases are on their way.
local kind = redis.call('TYPE', KEYS[3]).ok
if kind == 'stream' and redis.call('XLEN', KEYS[3]) > 0 then
  return 0
end
if kind ~= 'stream' then
  redis.call('DEL', KEYS[3])
end
local seen = redis.pcall('HMGET', KEYS[1], 'left', 'pending', 'epoch')
for i = 1, 3 do
  if (seen[i] or '') ~= ARGV[i] then
    return 0
  end
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'left', ARGV[4], 'pending', 0, 'version', ARGV[5], 'epoch', ARGV[6])
return 1
