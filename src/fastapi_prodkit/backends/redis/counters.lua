-- Weigh charges as one decision: all of their limits are charged, or none.
--
-- ARGV: a clock in microseconds or '', 1 to charge even beyond a limit, then for each charge two: 'cost dry
-- token', where dry is 1 if the cost has to fit but is not charged, and its limits, each in words followed by
-- ';': algorithm, capacity, quota, window, edges of calendar periods joined by commas.
-- Times are microseconds. Returns, in one string, for each limit: fits, remaining, reset, retry (-1: never).
-- The formulas are those of backends/memory/algorithms.py.

local call, format, match = redis.call, string.format, string.match
local ceil, floor, max = math.ceil, math.floor, math.max

local now
if ARGV[1] == '' then
  local time = call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
else
  now = tonumber(ARGV[1])
end

local function number(value) return format('%.17g', value) end

local function keep(key, value, microseconds)
  call('SET', key, value, 'PX', format('%.0f', ceil(microseconds / 1000) + 1000))
end

-- GCRA: when it was written, and the units that were used then.
local function level(key, interval)
  local held = call('GET', key)
  if not held then return 0 end
  local at, used = match(held, '(%S+) (%S+)')
  at, used = tonumber(at), tonumber(used)
  if at > now then -- the clock went back: another server took over
    keep(key, number(now) .. ' ' .. number(used), used * interval)
    at = now
  end
  return max(0, used - (now - at) / interval)
end

local function fill(key, interval, used)
  call('SET', key, format('%.0f %.17g', now, used), 'PX', ceil(used * interval / 1000) + 1000)
end

local function slack(interval) return 0.000001 + 1 / interval end

-- What most requests are, at half of what the general way costs: all limits are GCRA, and all admit.
local function admitted()
  local capacities, intervals, used = {}, {}, {}
  local position, count = 3, 0
  while ARGV[position] do
    local cost, dry = match(ARGV[position], '(%S+) (%d)')
    cost = tonumber(cost)
    if cost <= 0 or dry == '1' then return nil end
    for name, capacity, quota, window in string.gmatch(ARGV[position + 1], '(%a+) (%d+) (%d+) (%d+) [^;]*;') do
      if name ~= 'gcra' then return nil end
      count = count + 1
      local interval = window / quota
      local level_then = level(KEYS[count], interval) + cost
      if level_then > capacity + slack(interval) then return nil end
      capacities[count], intervals[count], used[count] = capacity, interval, level_then
    end
    position = position + 2
  end
  for index = 1, count do
    local interval, level_now = intervals[index], used[index]
    fill(KEYS[index], interval, level_now)
    local left = floor(capacities[index] - level_now + slack(interval))
    used[index] = format('1 %.0f %.0f 0', max(0, left), ceil(level_now * interval))
  end
  return table.concat(used, ' ')
end

local quick = admitted()
if quick then return quick end

local function words(key)
  local held = call('GET', key)
  local found = {}
  if held then
    for word in string.gmatch(held, '%S+') do found[#found + 1] = tonumber(word) end
  end
  return found
end

-- Each algorithm: load(key, limit) makes a state with its used units, charge(key, limit, state, cost)
-- writes and returns the new one, reset and retry are in microseconds from now.
-- Each is made when a limit names it: to make all of them costs more than to weigh one.
local make = {}
local algorithms = setmetatable({}, {__index = function(made, name)
  local algorithm = make[name]()
  made[name] = algorithm
  return algorithm
end})

make.gcra = function() return {
  load = function(key, limit) return {used = level(key, limit.interval)} end,
  charge = function(key, limit, state, cost)
    local used = max(0, state.used + cost)
    fill(key, limit.interval, used)
    return {used = used}
  end,
  reset = function(limit, state) return state.used * limit.interval end,
  retry = function(key, limit, state) return (state.used + limit.cost - limit.capacity) * limit.interval end,
} end

make.sliding = function() return {
  load = function(key, limit)
    local index = floor(now / limit.window)
    local share = now / limit.window - index
    local held = words(key)
    local current, previous = 0, 0
    if held[1] and held[1] >= index then
      current, previous = held[2], held[3]
      if held[1] > index then -- the clock went back: another server took over
        keep(key, number(index) .. ' ' .. number(current) .. ' ' .. number(previous), 2 * limit.window)
      end
    elseif held[1] == index - 1 then
      previous = held[2]
    end
    return {index = index, share = share, current = current, previous = previous,
            used = current + previous * (1 - share)}
  end,
  charge = function(key, limit, state, cost)
    local current = max(0, state.current + cost)
    keep(key, number(state.index) .. ' ' .. number(current) .. ' ' .. number(state.previous), 2 * limit.window)
    return {index = state.index, share = state.share, current = current, previous = state.previous,
            used = current + state.previous * (1 - state.share)}
  end,
  reset = function(limit, state)
    local last = state.current > 0 and 2 or (state.previous > 0 and 1 or state.share)
    return limit.window * (last - state.share)
  end,
  retry = function(key, limit, state)
    local room = limit.quota - limit.cost
    if state.current <= room then
      if state.previous == 0 then return 0 end
      return limit.window * (1 - (room - state.current) / state.previous - state.share)
    end
    return limit.window * (2 - room / state.current - state.share)
  end,
} end

-- A list, the latest first, of 'time running-total cost': the used units are a difference of totals.
local function entry(key, index)
  local held = call('LINDEX', key, index)
  if not held then return nil end
  local at, total, cost = match(held, '(%S+) (%S+) (%S+)')
  return {at = tonumber(at), total = tonumber(total), cost = tonumber(cost)}
end

local function log(key)
  local newest, oldest = entry(key, 0), entry(key, -1)
  if not newest then return {used = 0, total = 0} end
  return {used = newest.total - oldest.total + oldest.cost, total = newest.total, newest = newest}
end

make.moving = function() return {
  load = function(key, limit)
    local oldest = entry(key, -1)
    while oldest and oldest.at + limit.window <= now + 1 do
      call('RPOP', key)
      oldest = entry(key, -1)
    end
    local state = log(key)
    if state.newest and state.newest.at > now then -- the clock went back: all of it is as if charged now
      call('DEL', key)
      call('LPUSH', key, number(now) .. ' ' .. number(state.total) .. ' ' .. number(state.used))
      call('PEXPIRE', key, format('%.0f', ceil(limit.window / 1000) + 1000))
      state = log(key)
    end
    return state
  end,
  charge = function(key, limit, state, cost)
    while cost < 0 and state.newest do
      call('LPOP', key)
      cost = cost + state.newest.cost
      if cost > 0 then
        local total = state.newest.total - state.newest.cost + cost
        call('LPUSH', key, number(state.newest.at) .. ' ' .. number(total) .. ' ' .. number(cost))
        return log(key)
      end
      state = log(key)
    end
    if cost > 0 then
      call('LPUSH', key, number(now) .. ' ' .. number(state.total + cost) .. ' ' .. number(cost))
      call('PEXPIRE', key, format('%.0f', ceil(limit.window / 1000) + 1000))
    end
    return log(key)
  end,
  reset = function(limit, state)
    return state.newest and state.newest.at + limit.window - now or 0
  end,
  retry = function(key, limit, state)
    local over = state.used + limit.cost - limit.quota
    local index = -1
    local each = entry(key, index)
    while each do
      over = over - each.cost
      if over <= 0 then return each.at + limit.window - now end
      index = index - 1
      each = entry(key, index)
    end
    return 0
  end,
} end

make.calendar = function() return {
  load = function(key, limit)
    local start, finish = 0, 0
    for edge in string.gmatch(limit.edges, '[^,]+') do
      finish = tonumber(edge)
      if finish > now then break end
      start = finish
    end
    local held = words(key)
    return {start = start, left = max(0, finish - now), used = held[1] == start and held[2] or 0}
  end,
  charge = function(key, limit, state, cost)
    local used = max(0, state.used + cost)
    keep(key, number(state.start) .. ' ' .. number(used), state.left)
    return {start = state.start, left = state.left, used = used}
  end,
  reset = function(limit, state) return state.used > 0 and state.left or 0 end,
  retry = function(key, limit, state) return state.left end,
} end

make.concurrent = function() return {
  load = function(key, limit)
    call('ZREMRANGEBYSCORE', key, '-inf', number(now))
    local last = call('ZRANGE', key, -1, -1, 'WITHSCORES')
    local held, ends = last[2] and tonumber(last[2]) or now, now + limit.window
    if held > ends then -- the clock went back
      for _, token in ipairs(call('ZRANGE', key, '(' .. number(ends), '+inf', 'BYSCORE')) do
        call('ZADD', key, number(ends), token)
      end
      held = ends
    end
    return {used = call('ZCARD', key), last = held}
  end,
  charge = function(key, limit, state, cost)
    if cost > 0 then
      call('ZADD', key, number(now + limit.window), limit.token)
      call('PEXPIRE', key, format('%.0f', ceil(limit.window / 1000) + 1000))
    else
      call('ZREM', key, limit.token)
    end
    return algorithms.concurrent.load(key, limit)
  end,
  reset = function(limit, state) return state.last - now end,
  retry = function() return 1000000 end, -- nobody knows when a holder is done
} end

local weighed, fits_all, force = {}, true, ARGV[2] == '1'
local position = 3
while ARGV[position] do
  local cost, dry, token = match(ARGV[position], '(%S+) (%d) (.*)')
  cost, dry = tonumber(cost), dry == '1'
  for name, capacity, quota, window, edges in string.gmatch(ARGV[position + 1], '(%a+) (%d+) (%d+) (%d+) ([%d,-]*);') do
    local limit = {
      capacity = tonumber(capacity),
      quota = tonumber(quota),
      window = tonumber(window),
      edges = edges,
      cost = cost,
      token = token,
    }
    limit.interval = limit.window / limit.quota
    limit.slack = slack(limit.interval)
    local algorithm, key = algorithms[name], KEYS[#weighed + 1]
    local state = algorithm.load(key, limit)
    local fits = state.used + cost <= limit.capacity + limit.slack
    fits_all = fits_all and fits
    weighed[#weighed + 1] = {
      key = key, limit = limit, algorithm = algorithm, state = state, fits = fits, writes = cost ~= 0 and not dry,
    }
  end
  position = position + 2
end

local results = {}
for _, each in ipairs(weighed) do
  local limit, state, retry = each.limit, each.state, 0
  if not each.fits then
    retry = limit.cost <= limit.capacity and each.algorithm.retry(each.key, limit, state) or -1
  end
  if (force or fits_all) and each.writes then
    state = each.algorithm.charge(each.key, limit, state, limit.cost)
  end
  results[#results + 1] = format(
    '%d %.0f %.0f %.0f',
    each.fits and 1 or 0,
    max(0, floor(limit.capacity - state.used + limit.slack)),
    ceil(each.algorithm.reset(limit, state)),
    ceil(retry)
  )
end
return table.concat(results, ' ')
