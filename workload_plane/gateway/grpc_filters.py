"""Filters that only gRPC requests have: built off, turned on by the routes that gRPC takes first.

Pure; `answers`, `listeners` and `routes` call it. Envoy builds a request's filters by the route
that it has before its body is read, and that one depends on the path alone. A filter that waits
for nothing costs all the same: the two of gRPC took an eighth of what a request over HTTP cost.
"""

from workload_plane.gateway.wire import GENERATE_PATH, GRPC_METADATA, Json, typed

TRAILER_FILTER = "envoy.filters.http.header_mutation"

_ON = typed("envoy.config.route.v3.FilterConfig", config={})


def off(filter_built: Json) -> Json:
    """Return a filter that is built only where a route turns it on."""
    return {**filter_built, "disabled": True}


def for_grpc(route: Json) -> Json:
    """Return a route as it is, or, where it takes gRPC, with the filters of gRPC turned on."""
    match = route["match"]
    if "grpc" not in match:
        return route
    names = [TRAILER_FILTER]
    if match.get("path") == GENERATE_PATH:
        names.append(GRPC_METADATA)  # reads the message's model
    filters = dict.fromkeys(names, _ON)
    return {
        **route,
        "typed_per_filter_config": {**route.get("typed_per_filter_config", {}), **filters},
    }
