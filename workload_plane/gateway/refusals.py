"""What the gateway refuses in the engine's stead, because the engine would drop it silently.

Pure; `listeners` puts the filter in, `routes` turns it on for the models that need it. llama.cpp
answers a request with `tools` as if there were none where the base model's chat template has no
word for them; a user whose functions are never called looks for the fault for days.
"""

import json

from workload_plane.gateway.wire import Json, extension, typed

LUA_FILTER = "envoy.filters.http.lua"
_TYPE = "envoy.extensions.filters.http.lua.v3"

# A quote inside a JSON text is escaped, so what a user writes in a message never matches; an
# empty list is no tool. The body is held already: the JSON filter before this one read it.
_REFUSE_TOOLS = """
local ANSWER = %s
function envoy_on_request(handle)
  local body = handle:body()
  if body == nil or body:length() == 0 then return end
  local text = body:getBytes(0, body:length())
  if string.find(text, '"tools"%%s*:%%s*%%[%%s*[^%%]%%s]') == nil then return end
  handle:respond({[":status"] = "400", ["content-type"] = "application/json"}, ANSWER)
end
"""


def refusing_filter() -> Json:
    """Return the filter that does nothing until a route says what."""
    return extension(LUA_FILTER, f"{_TYPE}.Lua")


def refuse_tools(error: Json) -> Json:
    """Return a route's setting that answers requests with tools by that error."""
    # A JSON text of printable ASCII is also a literal of Lua.
    literal = json.dumps(json.dumps(error))
    code = _REFUSE_TOOLS % literal
    return {LUA_FILTER: typed(f"{_TYPE}.LuaPerRoute", source_code={"inline_string": code})}
