-- Key: counter. Argument: units put on sale, or taken off it when negative.
-- Without a counter nothing happens: it is made from the database when it is needed.
if tonumber(redis.call('HGET', KEYS[1], 'left')) then
  redis.call('HINCRBY', KEYS[1], 'left', ARGV[1])
end
