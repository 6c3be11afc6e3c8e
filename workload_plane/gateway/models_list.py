"""`/v1/models`: every model that may be asked for at this gateway, wherever its replicas are.

Pure; `routes.build_routes` calls it. Listed is what this plane serves or may scale, and what a peer
serves that residency lets this gateway forward to; adapters are models with a parent.
"""

import json
from collections.abc import Sequence
from urllib.parse import quote

from skerry.fleet.names import DEFAULT_PROJECT
from workload_plane.gateway.answers import answer, escaped, fault, unlisted
from workload_plane.gateway.topology import GatewayTopology, ServedModel
from workload_plane.gateway.wire import (
    DIRECT_BODY_BYTES_MAX,
    KEY_METADATA,
    MODELS_PATH,
    Json,
)

# Named in the error for an unknown model; the whole list is at /v1/models.
_LISTED_MODELS_MAX = 50
_GET: Json = {"name": ":method", "string_match": {"exact": "GET"}}
_LIST_BYTES_MAX = DIRECT_BODY_BYTES_MAX - 1024


def every_model(topology: GatewayTopology) -> Json:
    """Return the route of the list of all that this plane's users may ask for."""
    match = {"path": MODELS_PATH, "headers": [_GET]}
    return answer(match, 200, listing(topology.models, topology.project))


def model_list(topology: GatewayTopology) -> list[tuple[Json, ServedModel | None]]:
    """Return the routes of each model in the list, and of those that are not.

    With each the model that it tells of, None for none.
    """
    listed = [model for model in topology.models if model.listed]
    entries = _entries(listed, topology.project)
    get: Json = {"headers": [_GET]}
    routes: list[tuple[Json, ServedModel | None]] = []
    owners = {name: model for model in listed for name in model.names}
    for name, entry in entries.items():
        for path in dict.fromkeys((name, quote(name, safe=""), quote(name))):
            route = answer({**get, "path": f"{MODELS_PATH}/{path}"}, 200, entry)
            routes.append((route, owners[name]))
    unknown = fault(
        {**get, "prefix": f"{MODELS_PATH}/"},
        404,
        unlisted(told_names(topology)),
        param="model",
        code="model_not_found",
    )
    wrong = fault(
        {"safe_regex": {"regex": f"{MODELS_PATH}(/.*)?"}},
        405,
        "this path takes GET only",
        code="method_not_allowed",
    )
    return [*routes, (unknown, None), (wrong, None)]


def listing(models: Sequence[ServedModel], project: str) -> Json:
    """Return the answer to `/v1/models` for who may ask for these models."""
    return _listed(list(_entries([model for model in models if model.listed], project).values()))


def told_names(topology: GatewayTopology) -> str:
    """Return the format of which models may be asked for: with API keys, those of the key."""
    if topology.api_keys is not None:
        return f"%DYNAMIC_METADATA({KEY_METADATA}:served)%"
    return escaped(served_here(topology.models))


def _entries(models: Sequence[ServedModel], project: str) -> dict[str, Json]:
    return {name: _entry(name, model, project) for model in models for name in model.names}


def _listed(entries: list[Json]) -> Json:
    """Return the list, cut where it would be more than Envoy takes: it would refuse all routes."""
    left, whole = _LIST_BYTES_MAX, list[Json]()
    for entry in entries:
        left -= len(json.dumps(entry))
        if left < 0:
            return {"object": "list", "data": whole, "has_more": True}
        whole.append(entry)
    return {"object": "list", "data": whole}


def served_here(models: Sequence[ServedModel]) -> str:
    """Return which models may be asked for, in words."""
    names = sorted(name for model in models if model.listed for name in model.names)
    if not names:
        return "no model is served here yet"
    more = ", …" if len(names) > _LISTED_MODELS_MAX else ""
    return f"served: {', '.join(names[:_LISTED_MODELS_MAX])}{more}"


def _entry(name: str, model: ServedModel, project: str) -> Json:
    entry = {
        "id": name,
        "object": "model",
        "created": 0,  # a deployment's time of creation is not the plane's to know
        # The fleet's own project is what the plane's settings call it.
        "owned_by": project if model.project == DEFAULT_PROJECT else model.project,
    }
    return entry if name == model.served_name else {**entry, "parent": model.served_name}
