-- Keys: counter, units by buyer, stream, then the ticket of each entry.
-- Arguments: consumer group, seconds a ticket is kept, then for each entry: its id, epoch,
-- quantity, buyer, what its ticket says from now on ("" when it was sold) and 1 when its units go back on sale.
-- What was settled before is left alone, so doing it again is harmless. Garbage in the counter
-- must not keep entries on the queue, for it is healed when that is empty.
if redis.call('TYPE', KEYS[3]).ok ~= 'stream' then
  return
end
local epoch = redis.pcall('HGET', KEYS[1], 'epoch')
for i = 4, #KEYS do
  local at = 3 + (i - 4) * 6
  local id, quantity, buyer, state = ARGV[at], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4]
  redis.call('XACK', KEYS[3], ARGV[1], id)
  if redis.call('XDEL', KEYS[3], id) == 1 then
    if state ~= '' then
      redis.call('SET', KEYS[i], quantity .. ' ' .. state .. ' ' .. buyer, 'EX', ARGV[2])
    end
    if ARGV[at + 1] == epoch then
      redis.pcall('HINCRBY', KEYS[1], 'pending', -quantity)
      if ARGV[at + 5] == '1' then
        redis.pcall('HINCRBY', KEYS[1], 'left', quantity)
      end
      if state ~= '' and redis.pcall('HEXISTS', KEYS[2], buyer) == 1 then
        redis.pcall('HINCRBY', KEYS[2], buyer, -quantity)
      end
    end
  end
end
