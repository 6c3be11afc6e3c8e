"""The script by which the gateway finds an API key: Envoy hashes nothing that a filter could match.

Pure; `keys` fills it in. LuaJIT compiles the hash; it and the look-up take some 20 microseconds.
What was shown is taken out of the request: no engine, no peer and no log gets it.
"""

KEY_SCRIPT = """
local SCOPES = @SCOPES@
local KEYS = @KEYS@

local bit = require('bit')
local band, bxor, tobit = bit.band, bit.bxor, bit.tobit
local ror, rshift, tohex = bit.ror, bit.rshift, bit.tohex
local byte, char = string.byte, string.char

-- SHA-256's constants: 32 bits of the roots of the first primes. Doubles have 53.
local ROUND, START = {}, {}
do
  local count, number = 0, 2
  while count < 64 do
    local is_prime = true
    for divisor = 2, math.floor(math.sqrt(number)) do
      if number % divisor == 0 then is_prime = false end
    end
    if is_prime then
      count = count + 1
      ROUND[count] = tobit(math.floor(number ^ (1 / 3) % 1 * 4294967296))
      if count <= 8 then START[count] = tobit(math.floor(number ^ 0.5 % 1 * 4294967296)) end
    end
    number = number + 1
  end
end

local words = {}

local function hash_block(text, at, state)
  for i = 1, 16 do
    local a, b, c, d = byte(text, at + i * 4 - 4, at + i * 4 - 1)
    words[i] = tobit(a * 16777216 + b * 65536 + c * 256 + d)
  end
  for i = 17, 64 do
    local x, y = words[i - 15], words[i - 2]
    words[i] = tobit(
      words[i - 16] + bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
      + words[i - 7] + bxor(ror(y, 17), ror(y, 19), rshift(y, 10)))
  end
  local a, b, c, d = state[1], state[2], state[3], state[4]
  local e, f, g, h = state[5], state[6], state[7], state[8]
  for i = 1, 64 do
    local one = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(g, band(e, bxor(f, g)))
      + ROUND[i] + words[i]
    local two = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(c, bxor(a, b)))
    h, g, f, e, d, c, b, a = g, f, e, tobit(d + one), c, b, a, tobit(one + two)
  end
  local after = {a, b, c, d, e, f, g, h}
  for i = 1, 8 do state[i] = tobit(state[i] + after[i]) end
end

local function sha256(text)
  local bits = #text * 8
  text = text .. char(128) .. string.rep(char(0), (55 - #text) % 64 + 6)
    .. char(band(rshift(bits, 8), 255), band(bits, 255))
  local state = {unpack(START)}
  for at = 1, #text, 64 do hash_block(text, at, state) end
  for i = 1, 8 do state[i] = tohex(state[i]) end
  return table.concat(state)
end

local MISSING = 'no API key; send the header "Authorization: Bearer KEY"'
local WRONG = 'this API key is not known here, or has ended, or was revoked'

local function refuse(handle, headers, message)
  local content, body = 'application/json', message
  local kind = headers:get('content-type') or ''
  if kind:sub(1, 16) == 'application/grpc' then
    content = 'text/plain'
  else
    body = '{"error":{"message":"' .. message:gsub('"', '\\\\"')
      .. '","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}'
  end
  handle:respond({
    [':status'] = '401',
    ['content-type'] = content,
    ['www-authenticate'] = @SCHEME@,
    ['x-skerry-plane'] = @PLANE@,
  }, body)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local shown = headers:get('authorization')
  local text = shown and shown:match('^[Bb][Ee][Aa][Rr][Ee][Rr] +(%S+)$')
  if text == nil then return refuse(handle, headers, MISSING) end
  local key = #text <= @CHARACTERS@ and KEYS[sha256(text)] or nil
  if key == nil or (key.ends > 0 and os.time() >= key.ends) then
    return refuse(handle, headers, WRONG)
  end
  local scope = SCOPES[key.scope]
  local path = (headers:get(':path') or ''):match('^[^?#]*')
  if scope.shown and path == @MODELS_PATH@ and headers:get(':method') == 'GET' then
    handle:respond({
      [':status'] = '200',
      ['content-type'] = 'application/json',
      ['x-skerry-plane'] = @PLANE@,
    }, scope.shown)
    return
  end
  headers:remove('authorization')
  headers:replace(@HEADER@, key.id)
  local told = handle:streamInfo():dynamicMetadata()
  told:set(@METADATA@, 'id', key.id)
  told:set(@METADATA@, 'retry', key.retry)
  told:set(@METADATA@, 'project', scope.project)
  told:set(@METADATA@, 'deployments', scope.deployments)
  told:set(@METADATA@, 'served', scope.served)
end
"""
