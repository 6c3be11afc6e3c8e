"""Routes of models whose engine serves `trtllm.TrtllmService` and nothing else, and what has none.

Pure; `routes` calls it. The service takes tokens and its messages name no model, so `x-model` does.
It is passed as a whole, also methods that stream both ways: nobody is asked which replica is best,
and no stream of it is continued.
"""

from collections.abc import Sequence

from workload_plane.gateway.answers import (
    UNSERVED_GRPC,
    GrpcCode,
    as_from_here,
    escaped,
    fault,
    grpc_fault,
    naming_header,
    telling_headers,
)
from workload_plane.gateway.topology import GatewayTopology, ServedModel
from workload_plane.gateway.wire import MODEL_HEADER, TRTLLM_PREFIX, Json

_SERVICE = TRTLLM_PREFIX.strip("/")
# Of names in a message and of characters of a wrong one: gRPC's messages are headers.
_NAMES_SHOWN_MAX = 50
_ECHO_CHARACTERS_MAX = 64


def trtllm_routes(
    model: ServedModel, plane: str, action: Json, others: Sequence[Json]
) -> list[Json]:
    """Return the one way to such a model's replicas, and the refusals of all `others` matches.

    Refused here and not by a replica: none need be started for it, and none be there.
    """
    named = {"name": MODEL_HEADER, "string_match": {"exact": model.served_name}}
    passed: Json = {
        "match": {"prefix": TRTLLM_PREFIX, "grpc": {}, "headers": [named]},
        "route": action,
        "request_headers_to_add": [naming_header(model)],
        "response_headers_to_add": telling_headers(plane),
    }
    return [passed, *(_refused(model, match) for match in others)]


def unserved_trtllm(topology: GatewayTopology) -> list[Json]:
    """Return the answers to calls of the service that no model's own route took."""
    able = sorted(
        model.served_name
        for model in topology.models
        if model.serves_trtllm and not model.outside_of
    )
    match: Json = {"prefix": TRTLLM_PREFIX, "grpc": {}}
    if topology.is_shared:  # what others have is as what nobody has
        gone = grpc_fault(match, GrpcCode.NOT_FOUND, UNSERVED_GRPC)
        return [as_from_here(gone, topology.plane)]
    if not able:
        message = f"no model here serves {_SERVICE}; call openengine.v1.Inference/Generate instead"
        return [grpc_fault(match, GrpcCode.UNIMPLEMENTED, message)]
    names = ", ".join(able[:_NAMES_SHOWN_MAX])
    which = escaped(f"x-model must name one of: {names}")
    if topology.api_keys is not None:
        which = "x-model must name a model that has it, see /v1/models"  # none but the key's own
    wrong = f"`%REQ(X-MODEL):{_ECHO_CHARACTERS_MAX}%` is not served by {_SERVICE} here; {which}"
    unnamed = {"name": MODEL_HEADER, "present_match": True, "invert_match": True}
    return [
        grpc_fault(
            {**match, "headers": [unnamed]},
            GrpcCode.INVALID_ARGUMENT,
            f"{_SERVICE} names no model in its messages; {which}",
        ),
        grpc_fault(match, GrpcCode.NOT_FOUND, wrong),
    ]


def _refused(model: ServedModel, match: Json) -> Json:
    name = escaped(model.served_name)
    message = (
        f"the model `{name}` is served by gRPC {_SERVICE} only, with the header x-model: its"
        " deployment has `protocol: trtllm`"
    )
    if "grpc" in match:
        return grpc_fault(match, GrpcCode.UNIMPLEMENTED, message)
    return fault(match, 400, message, code="openai_http_not_served", param="model")
