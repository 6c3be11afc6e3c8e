"""What answers used, for the picker: read where an API key's tokens are bounded, and nowhere else.

Pure; `listeners` puts the filter in where keys are asked for, `routes` turns it on in tables of
which some key is bounded. The access log takes what it left to the picker.
"""

from workload_plane.gateway.grpc_filters import off
from workload_plane.gateway.topology import GatewayTopology
from workload_plane.gateway.usage_script import USAGE_SCRIPT
from workload_plane.gateway.wire import KEY_HEADER, USAGE_METADATA, Json, extension, typed

USAGE_FILTER = "skerry.usage"
_LUA = "envoy.extensions.filters.http.lua.v3"


def usage_filters(topology: GatewayTopology) -> list[Json]:
    """Return the filter that reads answers; none where nobody could be told, or no key is asked."""
    if topology.api_keys is None or not topology.picks:
        return []
    return [off(extension(USAGE_FILTER, f"{_LUA}.Lua"))]


def counted(topology: GatewayTopology) -> Json:
    """Return what turns it on in a table; nothing while no key's tokens are bounded."""
    if not topology.picks:
        return {}
    names = sorted(key.name for key in topology.api_keys or () if key.terms.counts_tokens)
    if not names:
        return {}
    # Names of keys are DNS labels: they need no escape in a literal of Lua.
    table = ",".join(f"['{name}']=true" for name in names)
    script = USAGE_SCRIPT.replace("@HEADER@", KEY_HEADER).replace("@METADATA@", USAGE_METADATA)
    source = {"inline_string": script.replace("@KEYS@", f"{{{table}}}")}
    settings = typed(f"{_LUA}.LuaPerRoute", source_code=source)
    return {USAGE_FILTER: typed("envoy.config.route.v3.FilterConfig", config=settings)}
