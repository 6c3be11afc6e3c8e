"""The script that reads what an answer used, where its API key's tokens are bounded.

Pure; `usage` fills it in. It looks at each piece of an answer as it goes by and holds none back: it
counts a stream's events, or gRPC's messages, and keeps the answer's end, where engines tell their
usage. Quotes inside a text are escaped, so nothing that a model writes is taken for that; and where
an engine repeats a client's own fields, the largest counts, so that nobody writes a smaller bill.
"""

USAGE_SCRIPT = """
local KEYS = @KEYS@
local TAIL = 4096  -- the usage, and what engines write after it
local byte, find, sub = string.byte, string.find, string.sub

-- Return how many blank lines a piece has, with the last byte of the one before in front of it.
local function events_in(text)
  local count, at = 0, 1
  while true do
    at = find(text, '\\n\\n', at, true)
    if at == nil then return count end
    count, at = count + 1, at + 2
  end
end

-- Return a counter of gRPC's messages: each has five bytes in front, the last four its length.
local function message_counter()
  local frame, left = '', 0
  return function(text)
    local count, at = 0, 1
    while at <= #text do
      if left > 0 then
        local step = math.min(left, #text - at + 1)
        at, left = at + step, left - step
      else
        local part = sub(text, at, at + 4 - #frame)
        at, frame = at + #part, frame .. part
        if #frame == 5 then
          local a, b, c, d = byte(frame, 2, 5)
          count, frame, left = count + 1, '', ((a * 256 + b) * 256 + c) * 256 + d
        end
      end
    end
    return count
  end
end

-- Return the larger of two counts, '-' where there is neither.
local function larger(known, told)
  if told == nil or (known ~= '-' and tonumber(known) >= tonumber(told)) then return known end
  return told
end

-- Return the usage in an answer's end: prompt and answer, '-' for what it does not say.
local function usage_in(text)
  local prompt, answer, at = '-', '-', 1
  while true do
    local first, after = find(text, '"usage"%s*:%s*{', at)
    if first == nil then return prompt, answer end
    local told = sub(text, after)
    prompt = larger(prompt, told:match('"prompt_tokens"%s*:%s*(%d+)')
      or told:match('"input_tokens"%s*:%s*(%d+)'))
    answer = larger(answer, told:match('"completion_tokens"%s*:%s*(%d+)')
      or told:match('"output_tokens"%s*:%s*(%d+)'))
    at = after + 1
  end
end

function envoy_on_request(handle)
  local key = handle:headers():get('@HEADER@')
  if key and KEYS[key] then
    handle:streamInfo():dynamicMetadata():set('@METADATA@', 'wanted', '1')
  end
end

function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  if metadata:get('@METADATA@') == nil then return end
  local headers = handle:headers()
  if headers:get(':status') ~= '200' then return end
  local kind = headers:get('content-type') or ''
  local messages = sub(kind, 1, 16) == 'application/grpc' and message_counter() or nil
  local is_stream = sub(kind, 1, 17) == 'text/event-stream'
  local events, tail = 0, ''
  for chunk in handle:bodyChunks() do
    local text = chunk:getBytes(0, chunk:length())
    if messages then
      events = events + messages(text)
    else
      if is_stream then events = events + events_in(sub(tail, -1) .. text) end
      tail = #text >= TAIL and sub(text, -TAIL) or sub(tail .. text, -TAIL)
    end
  end
  local prompt, answer = usage_in(tail)
  -- Asked for anew: Envoy lets nothing be used that was had before a piece was waited for.
  metadata = handle:streamInfo():dynamicMetadata()
  metadata:set('@METADATA@', 'told', prompt .. '.' .. answer .. '.' .. events)
end
"""
