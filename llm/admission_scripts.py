"""What Redis does in one step when an attempt begins and when it ends. Its own clock is the only one in these.

Keys: a circuit's hash (`failures` in a row since `first_at`, `open_until`, `trial_until`, `trips` in a row), then for
each limit the slots (a sorted set of leases by their end), the requests and the tokens (hashes: second → count).
Sixty-one whole seconds are counted together, so that no sixty seconds hold more than the limit.
"""
from __future__ import annotations

from llm.shared import Script

_NOW = """
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second * 1000 + math.floor(tonumber(time[2]) / 1000)
"""

# ARGV: 1 circuit or 0, 2 lease in ms, 3 ticket, 4 tokens, then three limits for each three keys. Answers
# {'ok', second, trial, failures}, or {why, wait in ms, number of the limit from 0}.
ENTER = Script(_NOW + """
local counted = 61
local function taken(key)
    local flat, sum, rows = redis.call('HGETALL', key), 0, {}
    for i = 1, #flat, 2 do
        local at, count = tonumber(flat[i]), tonumber(flat[i + 1])
        if at <= second - counted then
            redis.call('HDEL', key, flat[i])
        else
            sum = sum + count
            rows[#rows + 1] = {at, count}
        end
    end
    table.sort(rows, function(a, b) return a[1] < b[1] end)
    return sum, rows
end
local function freed(rows, wanted)
    for _, row in ipairs(rows) do
        wanted = wanted - row[2]
        if wanted <= 0 then return (row[1] + counted) * 1000 - now end
    end
    return counted * 1000
end

local trial, failures = 0, 0
if ARGV[1] == '1' then
    local circuit = redis.call('HMGET', KEYS[1], 'open_until', 'trial_until', 'failures')
    failures = tonumber(circuit[3] or 0)
    if circuit[1] then
        if tonumber(circuit[1]) > now then return {'circuit', tonumber(circuit[1]) - now, 0} end
        if circuit[2] and tonumber(circuit[2]) > now then return {'trial', 1000, 0} end
        trial = 1
    end
end
local scopes = (#KEYS - 1) / 3
local function limit(scope, kind) return tonumber(ARGV[4 + scope * 3 + kind]) end
local function key(scope, kind) return KEYS[1 + scope * 3 + kind] end
local function needed(most) return math.min(tonumber(ARGV[4]), most) end
for scope = 0, scopes - 1 do
    local slots, requests, tokens = limit(scope, 1), limit(scope, 2), limit(scope, 3)
    if slots > 0 then
        redis.call('ZREMRANGEBYSCORE', key(scope, 1), '-inf', now)
        if redis.call('ZCARD', key(scope, 1)) >= slots then return {'concurrency', 400, scope} end
    end
    if requests > 0 then
        local sum, rows = taken(key(scope, 2))
        if sum + 1 > requests then return {'requests', freed(rows, sum + 1 - requests), scope} end
    end
    if tokens > 0 then
        local sum, rows = taken(key(scope, 3))
        if sum + needed(tokens) > tokens then
            return {'tokens', freed(rows, sum + needed(tokens) - tokens), scope}
        end
    end
end
for scope = 0, scopes - 1 do
    local slots, requests, tokens = limit(scope, 1), limit(scope, 2), limit(scope, 3)
    if slots > 0 then
        redis.call('ZADD', key(scope, 1), now + tonumber(ARGV[2]), ARGV[3])
        redis.call('PEXPIRE', key(scope, 1), tonumber(ARGV[2]) + 60000)
    end
    if requests > 0 then
        redis.call('HINCRBY', key(scope, 2), second, 1)
        redis.call('EXPIRE', key(scope, 2), counted + 10)
    end
    if tokens > 0 then
        redis.call('HINCRBY', key(scope, 3), second, needed(tokens))
        redis.call('EXPIRE', key(scope, 3), counted + 10)
    end
end
if trial == 1 then redis.call('HSET', KEYS[1], 'trial_until', now + tonumber(ARGV[2])) end
return {'ok', second, trial, failures}
""")

# ARGV: 1 ok, failed or neither, 2 ticket, 3 second, 4 tokens booked, 5 tokens taken, 6 circuit or 0, 7 trial or 0,
# 8 failures that open it, 9 window in ms, 10 cool-down in ms, then three limits for each three keys.
LEAVE = Script(_NOW + """
for scope = 0, (#KEYS - 1) / 3 - 1 do
    local tokens = tonumber(ARGV[10 + scope * 3 + 3])
    redis.call('ZREM', KEYS[2 + scope * 3], ARGV[2])
    if tokens > 0 and redis.call('HEXISTS', KEYS[4 + scope * 3], ARGV[3]) == 1 then
        local correction = tonumber(ARGV[5]) - math.min(tonumber(ARGV[4]), tokens)
        redis.call('HINCRBY', KEYS[4 + scope * 3], ARGV[3], correction)
    end
end
if ARGV[6] == '0' then return 0 end
local trial = ARGV[7] == '1'
if ARGV[1] == 'ok' then return redis.call('DEL', KEYS[1]) end
if ARGV[1] == 'neither' then
    if trial then redis.call('HDEL', KEYS[1], 'trial_until') end
    return 0
end
local found = redis.call('HMGET', KEYS[1], 'failures', 'first_at', 'trips', 'open_until')
if found[4] and not trial then return 0 end  -- it began before the circuit opened
local failures, first_at = tonumber(found[1] or 0), tonumber(found[2] or 0)
if now - first_at > tonumber(ARGV[9]) then failures, first_at = 0, now end
failures = failures + 1
if not trial and failures < tonumber(ARGV[8]) then
    redis.call('HSET', KEYS[1], 'failures', failures, 'first_at', first_at)
    return redis.call('PEXPIRE', KEYS[1], ARGV[9])
end
local trips = tonumber(found[3] or 0)
local pause = math.floor(tonumber(ARGV[10]) * 2 ^ math.min(trips, 4))
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'open_until', now + pause, 'trips', trips + 1)
return redis.call('PEXPIRE', KEYS[1], pause * 5)
""")
