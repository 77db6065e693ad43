-- Keys: counter, units by buyer, stream, ticket.
-- Arguments: quantity, buyer, key, reference, unit price, limit or "", seconds a ticket is kept.
-- Result: a word and a number. accepted or sold_out with the units left; pending or reused for
-- a purchase that is on its way already; limit_reached; missing without a counter to go by.
-- All is read and judged before the first write: a script that fails later is not undone.
local function whole(value) -- the number, where HINCRBY reads one too
  local number = tonumber(value)
  return number and string.format('%d', number) == value and number
end
local quantity, limit = tonumber(ARGV[1]), tonumber(ARGV[6])
local before = redis.pcall('GET', KEYS[4])
if type(before) == 'string' then
  local taken, state = string.match(before, '^(%d+) (%S+)')
  if state == 'pending' then
    return {tonumber(taken) == quantity and 'pending' or 'reused', 0}
  end
end
local counter = redis.call('HMGET', KEYS[1], 'left', 'pending', 'epoch')
local left = whole(counter[1])
if not left or not whole(counter[2]) or not string.match(counter[3] or '', '^%x+$') then
  return {'missing', 0}
end
if left < quantity then
  return {'sold_out', left}
end
local bought = limit and (whole(redis.call('HGET', KEYS[2], ARGV[2])) or 0)
if limit and bought + quantity > limit then
  return {'limit_reached', 0}
end
redis.call('XADD', KEYS[3], '*', 'buyer', ARGV[2], 'key', ARGV[3], 'quantity', quantity,
  'reference', ARGV[4], 'unit_price', ARGV[5], 'epoch', counter[3])
redis.call('HINCRBY', KEYS[1], 'left', -quantity)
redis.call('HINCRBY', KEYS[1], 'pending', quantity)
if limit then
  redis.call('HSET', KEYS[2], ARGV[2], bought + quantity)
end
redis.call('SET', KEYS[4], quantity .. ' pending ' .. ARGV[2], 'EX', ARGV[7])
return {'accepted', left - quantity}
