"""What the gateway refuses in the engine's stead: it would drop it silently, or hang or die of it.

Pure; `listeners` puts the filter in, `routes` turns it on for the models that need it. llama.cpp
answers a request with `tools` as if there were none where the base model's chat template has no
word for them; a user whose functions are never called looks for the fault for days. Its grammars
recurse as deep as they are nested, and lists of 100,000 entries stop it for minutes.
"""

import json
import re

from workload_plane.gateway.answers import openai_error
from workload_plane.gateway.wire import Json, extension, typed

LUA_FILTER = "envoy.filters.http.lua"
_TYPE = "envoy.extensions.filters.http.lua.v3"

# Of all fields together but those that hold the prompt: as many stop words, choices or properties
# as fit in were answered in seconds, where twice as many took 25 and more.
OTHER_BYTES_MAX = 16 * 1024
# llama.cpp died of grammars and schemas nested tens of thousands deep.
DEPTH_MAX = 128
PARENTHESES_MAX = 500
# Quotes and brackets that are looked at, some 20 ms of the gateway's time.
MARKS_MAX = 300_000

# A quote inside a JSON text is escaped, so what a user writes in a message never matches; an
# empty list is no tool. The body is held already: the JSON filter before this one read it.
_CODE = """
local find, byte, sub = string.find, string.byte, string.sub
local ANSWER = @ANSWER@
local GUARDS = @GUARDS@
local DEEP = @DEEP@
local LARGE = @LARGE@
local PROMPT = {['"messages"'] = true, ['"prompt"'] = true, ['"input"'] = true}

-- Return where a text ends, at the first quote with an even number of backslashes before it, and
-- how many quotes were looked at; no end where those are too many.
local function text_end(text, at)
  local count = 0
  while true do
    at = find(text, '"', at + 1, true)
    count = count + 1
    if at == nil or count > @MARKS@ then return nil, count end
    local before = at - 1
    while byte(text, before) == 92 do before = before - 1 end
    if (at - before) % 2 == 1 then return at, count end
  end
end

-- Return how many parentheses a text has, and whether too many are inside another.
local function nested(text)
  local at, depth, count = 1, 0, 0
  while true do
    at = find(text, '[()]', at)
    if at == nil then return count, false end
    -- One that closes nothing, in a comment say, makes no room for others.
    depth = math.max(0, depth + (byte(text, at) == 40 and 1 or -1))
    count = count + 1
    if depth > @PARENTHESES@ then return count, true end
    at = at + 1
  end
end

local function too_much(text)
  local at, depth, marks, other = 1, 0, 0, 0
  local began, in_prompt = nil, false
  while true do
    at = find(text, depth == 1 and '["{}%[%],]' or '["{}%[%]]', at)
    if at == nil then return nil end
    marks = marks + 1
    local mark = byte(text, at)
    if mark == 34 then
      local last, quotes = text_end(text, at)
      marks = marks + quotes
      if marks > @MARKS@ then return LARGE end
      if last == nil then return nil end
      if depth == 1 and find(text, '^%s*:', last + 1) then
        in_prompt = last - at < 16 and PROMPT[sub(text, at, last)] == true
        began = at
      elseif not in_prompt then
        -- Of the text alone: a search in the whole body would go on to its end each time.
        local count, is_deep = nested(sub(text, at, last))
        marks = marks + count
        if is_deep then return DEEP end
      end
      at = last
    elseif mark == 123 or mark == 91 then
      depth = depth + 1
      if depth > @DEPTH@ then return DEEP end
    elseif mark ~= 44 then
      depth = depth - 1
    end
    if began and not in_prompt and other + at - began > @OTHER@ then return LARGE end
    if began and depth <= 1 and (mark == 44 or depth == 0) then
      if not in_prompt then other = other + at - began end
      began, in_prompt = nil, false
    end
    if marks > @MARKS@ then return LARGE end
    at = at + 1
  end
end

function envoy_on_request(handle)
  local body = handle:body()
  if body == nil or body:length() == 0 then return end
  local text = body:getBytes(0, body:length())
  local answer = nil
  if ANSWER and find(text, '"tools"%s*:%s*%[%s*[^%]%s]') then answer = ANSWER end
  if answer == nil and GUARDS then answer = too_much(text) end
  if answer == nil then return end
  handle:respond({[":status"] = "400", ["content-type"] = "application/json"}, answer)
end
"""


def refusing_filter() -> Json:
    """Return the filter that does nothing until a route says what."""
    return extension(LUA_FILTER, f"{_TYPE}.Lua")


def refuse(tools: Json | None, *, guards: bool) -> Json:
    """Return a route's setting: requests with tools get that error, if any.

    With `guards` those that are nested too deep, or ask with too much beside the prompt, get 400.
    """
    deep = openai_error(
        f"lists, objects or parentheses are nested deeper than {DEPTH_MAX} or {PARENTHESES_MAX}",
        code="too_complex",
    )
    large = openai_error(
        f"everything but the prompt has more than {OTHER_BYTES_MAX // 1024} KiB, or the body more"
        f" than {MARKS_MAX} texts and lists",
        code="too_complex",
    )
    values = {
        "ANSWER": "nil" if tools is None else _literal(tools),
        "GUARDS": str(guards).lower(),
        "DEEP": _literal(deep),
        "LARGE": _literal(large),
        "PARENTHESES": str(PARENTHESES_MAX),
        "DEPTH": str(DEPTH_MAX),
        "OTHER": str(OTHER_BYTES_MAX),
        "MARKS": str(MARKS_MAX),
    }
    # In one pass: a name inside an error may look like one of these.
    code = re.sub("@([A-Z]+)@", lambda found: values[found[1]], _CODE)
    return {LUA_FILTER: typed(f"{_TYPE}.LuaPerRoute", source_code={"inline_string": code})}


def _literal(error: Json) -> str:
    """Return a literal of Lua: a JSON text of printable ASCII is one."""
    return json.dumps(json.dumps(error))
