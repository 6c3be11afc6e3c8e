"""What a gateway answers for a deployment whose requests may not enter its plane: only why, where.

Pure; `routes` calls it in place of a model's own routes. Such a request is answered from the route
table: nobody is asked to pick, hold, relay or forward it.
"""

from collections.abc import Sequence
from urllib.parse import quote

from skerry.wire.refusals import REFUSAL_HEADER, RESIDENCY
from workload_plane.gateway.answers import GrpcCode, escaped, fault, grpc_fault, header
from workload_plane.gateway.topology import ServedModel
from workload_plane.gateway.wire import MODEL_HEADER, MODELS_PATH, TRTLLM_PREFIX, Json

# Of zones in a message: gRPC's messages are headers.
_ZONES_SHOWN_MAX = 20


def residency_routes(model: ServedModel, matches: Sequence[Json]) -> list[Json]:
    """Return the refusals of all that a model's own routes would match, and of its entry.

    HTTP gets 403 `residency`, gRPC PERMISSION_DENIED; both have the header `x-skerry-refusal`.
    """
    named = {"name": MODEL_HEADER, "string_match": {"exact": model.served_name}}
    trtllm: Json = {"prefix": TRTLLM_PREFIX, "grpc": {}, "headers": [named]}
    paths = dict.fromkeys(path for name in model.names for path in (name, quote(name, safe="")))
    get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    entries: list[Json] = [{"path": f"{MODELS_PATH}/{path}", "headers": get} for path in paths]
    return [_refused(model, match) for match in (*matches, trtllm, *entries)]


def _refused(model: ServedModel, match: Json) -> Json:
    zones = ", ".join(model.outside_of[:_ZONES_SHOWN_MAX])
    message = escaped(
        f"requests for the model `{model.served_name}` are kept to the residency zones {zones},"
        " and this plane lies in none of them; ask a gateway of a plane there"
    )
    if "grpc" in match:
        route = grpc_fault(match, GrpcCode.PERMISSION_DENIED, message)
    else:
        route = fault(match, 403, message, code=RESIDENCY, param="model")
    told = header(REFUSAL_HEADER, RESIDENCY, "OVERWRITE_IF_EXISTS_OR_ADD")
    return {**route, "response_headers_to_add": [*route.get("response_headers_to_add", ()), told]}
