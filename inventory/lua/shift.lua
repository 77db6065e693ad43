-- Keys: counter, units by buyer. Arguments: units put on sale, or taken off it when negative; the
-- stock row's version that did so; the buyer who gave them back, where this counter had given them,
-- or "". Without a counter nothing happens: it is made from the database when it is needed; nor when
-- it was made from that version or a later one, which has counted them.
local counter = redis.call('HMGET', KEYS[1], 'left', 'version')
if tonumber(counter[1]) and tonumber(ARGV[2]) > (tonumber(counter[2]) or 0) then
  redis.call('HINCRBY', KEYS[1], 'left', ARGV[1])
  local bought = ARGV[3] ~= '' and tonumber(redis.pcall('HGET', KEYS[2], ARGV[3]))
  if bought then
    redis.call('HSET', KEYS[2], ARGV[3], math.max(0, bought - tonumber(ARGV[1])))
  end
end
