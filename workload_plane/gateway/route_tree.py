"""A route table as a tree: one look-up of the model instead of a walk over all models' routes.

Pure; `routes` calls it with a list of which the first match wins. Walking over 100 models' routes
cost four times as much as all else that Envoy does for a request (docs/decisions/0003). A branch's
routes keep their own conditions: a wrong turn ends in an error of ours, never at another model.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workload_plane.gateway.answers import fault
from workload_plane.gateway.wire import (
    DEPLOYMENT_HEADER,
    GENERATE_PATH,
    GRPC_METADATA,
    JSON_METADATA,
    MODEL_HEADER,
    OPENAI,
    OPENAI_PATHS,
    Json,
    extension,
    typed,
)

# Set by a filter of `listeners`: the model that a body names, as text. It is how Envoy prints it: a
# name from JSON, and from a message a list of one name.
MODEL_STATE = "skerry.model"

_OPENAI = tuple(f"/v1/{path}" for path in OPENAI)
_QUERY = r"([?#].*)?"
# Names that are the same inside a printed list; those of other messages are looked for in turn.
_PRINTED = re.compile(r"[A-Za-z0-9 ._:/@+-]+")

Names = Callable[[Json], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Answers to OpenAI requests whatever their model is, each with its predicate.

    `any_holds` is a predicate that holds where one of them does: without it each would be asked of
    every request.
    """

    any_holds: Json
    answers: Sequence[tuple[Json, Json]]


def public_tree(routes: Sequence[Json], faults: Faults | None = None) -> Json:
    """Return the routes as fields of a virtual host: by path, then by the model in the body."""
    openai = [route for route in routes if _takes_openai(route["match"])]
    generate = [route for route in routes if _takes_path(route["match"], GENERATE_PATH)]
    others = [
        route
        for route in routes
        if not _in_json(route["match"]) and route["match"].get("path") != GENERATE_PATH
    ]
    unnamed = [route for route in openai if not _in_json(route["match"])]
    by_json = _tree(_state(), _branches(openai, _in_json, [_not_text()]), _list(unnamed))
    is_openai = [_is(":method", {"exact": "POST"}), _is(":path", _regex(OPENAI_PATHS))]
    steps = [
        *([_refused(faults, is_openai)] if faults else ()),
        {"predicate": {"and_matcher": {"predicate": is_openai}}, "on_match": by_json},
        {
            "predicate": _is(":path", _regex(re.escape(GENERATE_PATH))),
            "on_match": _by_message(generate),
        },
    ]
    return {"matcher": {"matcher_list": {"matchers": steps}, "on_no_match": _list(others)}}


def _refused(faults: Faults, is_openai: Sequence[Json]) -> Json:
    which = [{"predicate": holds, "on_match": _list([to])} for holds, to in faults.answers]
    return {
        "predicate": {"and_matcher": {"predicate": [faults.any_holds, *is_openai]}},
        "on_match": {"matcher": {"matcher_list": {"matchers": which}}},
    }


def peer_tree(routes: Sequence[Json]) -> Json:
    """Return the routes as fields of a virtual host: by the deployment that the sender names."""
    shared = [route for route in routes if not _in_header(DEPLOYMENT_HEADER)(route["match"])]
    branches = _branches(routes, _in_header(DEPLOYMENT_HEADER), shared)
    if not branches:
        return {"routes": list(routes)}
    return {"matcher": _tree(_header(DEPLOYMENT_HEADER), branches, _list(shared))["matcher"]}


def _by_message(routes: Sequence[Json]) -> Json:
    """Return the way of Generate: by the message's model, else by the header."""
    no_message = [route for route in routes if not _in_message(route["match"])]
    by_header = _in_header(MODEL_HEADER)
    shared = [route for route in no_message if not by_header(route["match"])]
    named = _tree(_header(MODEL_HEADER), _branches(no_message, by_header, shared), _list(shared))
    return _tree(_state(), _branches(routes, _in_message, shared), named)


def _branches(routes: Sequence[Json], names_of: Names, shared: Sequence[Json]) -> dict[str, Json]:
    """Return for each name its own routes, each for that name alone, and the shared ones after."""
    found: dict[str, list[Json]] = {}
    for route in routes:
        names = names_of(route["match"])
        for name in names:
            only = route if len(names) == 1 else _for_one(route, name)
            found.setdefault(name, []).append(only)
    return {name: _list([*own, *shared]) for name, own in found.items()}


def _tree(source: Json, branches: dict[str, Json], otherwise: Json) -> Json:
    if not branches:
        return otherwise
    by_name = {"input": source, "exact_match_map": {"map": branches}}
    return {"matcher": {"matcher_tree": by_name, "on_no_match": otherwise}}


def _list(routes: Sequence[Json]) -> Json:
    config = typed("envoy.config.route.v3.RouteList", routes=list(routes))
    return {"action": {"name": "routes", "typed_config": config}}


def _state() -> Json:
    return extension(
        MODEL_STATE,
        "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput",
        key=MODEL_STATE,
    )


def _header(name: str) -> Json:
    return extension(name, "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)


def _is(name: str, value: Json) -> Json:
    return {"single_predicate": {"input": _header(name), "value_match": value}}


def _regex(path: str) -> Json:
    return {"safe_regex": {"google_re2": {}, "regex": f"{path}{_QUERY}"}}


def _takes_openai(match: Json) -> bool:
    methods = [_exact(entry) for entry in match.get("headers", ()) if entry["name"] == ":method"]
    return methods in ([], ["POST"]) and any(_takes_path(match, path) for path in _OPENAI)


def _takes_path(match: Json, path: str) -> bool:
    if "safe_regex" in match:
        return re.fullmatch(match["safe_regex"]["regex"], path) is not None
    if "prefix" in match:
        return path.startswith(match["prefix"])
    return bool(match["path"] == path)


def _in_json(match: Json) -> list[str]:
    """Return the names of which a JSON body must have one; none when any will do."""
    for entry in match.get("dynamic_metadata", ()):
        if entry["filter"] == JSON_METADATA and entry["path"] == [{"key": "model"}]:
            values = entry["value"].get("or_match", {}).get("value_matchers", [entry["value"]])
            return [name for value in values if (name := _exact(value)) is not None]
    return []


def _in_message(match: Json) -> list[str]:
    """Return the name that a message must have, as Envoy prints it; none when any will do."""
    for entry in match.get("dynamic_metadata", ()):
        if entry["filter"] == GRPC_METADATA:
            name = _exact(entry["value"]["list_match"]["one_of"])
            return [f'["{name}"]'] if name is not None and _PRINTED.fullmatch(name) else []
    return []


def _in_header(header: str) -> Names:
    def names(match: Json) -> list[str]:
        values = (_exact(entry) for entry in match.get("headers", ()) if entry["name"] == header)
        return [value for value in values if value is not None]

    return names


def _exact(entry: Json) -> str | None:
    value = entry.get("string_match", {}).get("exact")
    return None if value is None else str(value)


def _for_one(route: Json, name: str) -> Json:
    """Return the route for one of its names: with 1,000 adapters a list of all, 1,000 times."""
    metadata = [
        {**entry, "value": {"string_match": {"exact": name}}}
        if entry["path"] == [{"key": "model"}]
        else entry
        for entry in route["match"]["dynamic_metadata"]
    ]
    return {**route, "match": {**route["match"], "dynamic_metadata": metadata}}


def _not_text() -> Json:
    """Return the answer to a `model` that is printed like one which is served, and is no text."""
    return fault(
        {"prefix": "/"}, 400, "`model` must be a string", code="missing_model", param="model"
    )
