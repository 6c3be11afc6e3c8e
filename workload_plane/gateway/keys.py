"""API keys at the gateway: who asks, whether they may, and how often; with nothing else running.

Pure; `listeners`, `routes`, `answers` and `models_list` call it. Three filters before all that
reads a body: a script that finds the key by the SHA-256 of what was shown (the gateway's files hold
digests, never keys) and leaves what the key may as metadata, token buckets, and, once the model is
known, the check of what the route asks for. A script that fails leaves nothing, and nothing is
not let in.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence

from skerry.fleet.api_key import CHARACTERS_MAX, EVERY_DEPLOYMENT, ApiKey
from workload_plane.gateway.answers import FOREIGN_POLICY
from workload_plane.gateway.key_script import KEY_SCRIPT
from workload_plane.gateway.models_list import listing, served_here
from workload_plane.gateway.topology import GatewayTopology, ServedModel
from workload_plane.gateway.wire import (
    KEY_HEADER,
    KEY_METADATA,
    MODELS_PATH,
    Json,
    duration,
    extension,
    typed,
)

# Their names are looked for by `relaying`: whoever comes back from the relay was asked already.
FIND_FILTER, RATE_FILTER, ALLOW_FILTER = "skerry.key", "skerry.rates", "skerry.allowed"
KEY_FILTERS = frozenset({FIND_FILTER, RATE_FILTER, ALLOW_FILTER})
_FILTERS = "envoy.extensions.filters.http"
_LUA = f"{_FILTERS}.lua.v3"
_RBAC = f"{_FILTERS}.rbac.v3"
_RATES = f"{_FILTERS}.local_ratelimit.v3.LocalRateLimit"
# Envoy fills no bucket more often than this.
_FILL_SECONDS = 0.05
# For keys without a rate Envoy needs a bucket, too; this one is never empty.
_ENOUGH = {"max_tokens": 2**31, "tokens_per_fill": 2**31, "fill_interval": duration(_FILL_SECONDS)}
_ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
_SCHEME = "Bearer"


def key_filters(topology: GatewayTopology) -> list[Json]:
    """Return the filters before a body is read; none where no key is asked for."""
    if topology.api_keys is None:
        return []
    return [
        extension(FIND_FILTER, f"{_LUA}.Lua"),
        extension(RATE_FILTER, _RATES, stat_prefix="api_keys"),
    ]


def allow_filters(topology: GatewayTopology) -> list[Json]:
    """Return the filter after a body was read and the route chosen by it."""
    return [] if topology.api_keys is None else [extension(ALLOW_FILTER, f"{_RBAC}.RBAC")]


def keyed(topology: GatewayTopology) -> Json:
    """Return what a table's routes are asked with by default: any key of those there are."""
    keys = topology.api_keys
    if keys is None:
        return {}
    script = {"source_code": {"inline_string": _script(topology, keys)}}
    return {
        FIND_FILTER: typed(f"{_LUA}.LuaPerRoute", **script),
        **_rates(keys),
        ALLOW_FILTER: _allowed([_told("id", {"safe_regex": {"google_re2": {}, "regex": ".+"}})]),
    }


def allowed(topology: GatewayTopology) -> Callable[[ServedModel], Json]:
    """Return what gives, for a model, what its routes ask: a key that is for its deployment.

    Where several projects are here it is first looked at whose the key is: to one of another
    project the model is not there (`answers.key_replies`).
    """
    if topology.api_keys is None:
        return lambda model: {}
    if not topology.is_shared:
        return lambda model: {
            ALLOW_FILTER: _allowed([_listed(name) for name in (model.deployment, EVERY_DEPLOYMENT)])
        }

    def is_for(model: ServedModel) -> Json:
        names = (model.deployment, EVERY_DEPLOYMENT, _every_of(model.project))
        own = [_told("project", {"exact": model.project}), _listed(EVERY_DEPLOYMENT)]
        return {ALLOW_FILTER: _allowed_of(own, [_listed(name) for name in names])}

    return is_for


def allowed_all(topology: GatewayTopology) -> Json:
    """Return what is asked where a request is about the whole plane: a key for everything."""
    if topology.api_keys is None:
        return {}
    return {ALLOW_FILTER: _allowed([_listed(EVERY_DEPLOYMENT)])}


def asking(route: Json, settings: Json) -> Json:
    """Return the route with further settings of filters."""
    if not settings:
        return route
    return {
        **route,
        "typed_per_filter_config": {**route.get("typed_per_filter_config", {}), **settings},
    }


def open_to_all(topology: GatewayTopology) -> Json:
    """Return what lets everybody in, as who asks whether the gateway is alive."""
    if topology.api_keys is None:
        return {}
    return {
        FIND_FILTER: typed(f"{_LUA}.LuaPerRoute", disabled=True),
        ALLOW_FILTER: typed(f"{_RBAC}.RBACPerRoute"),
    }


def fill_of(requests_per_minute: int) -> tuple[int, float]:
    """Return how many requests a bucket is given back at once, and after how many seconds.

    Envoy takes whole requests, and multiples of `_FILL_SECONDS`.
    """
    ticks = round(60 / _FILL_SECONDS)
    common = math.gcd(ticks, requests_per_minute)
    return requests_per_minute // common, ticks // common * _FILL_SECONDS


def retry_after_seconds(requests_per_minute: int) -> int:
    """Return after how many whole seconds an empty bucket has room for one more request."""
    return max(1, math.ceil(60 / requests_per_minute)) if requests_per_minute else 1


def _rates(keys: Sequence[ApiKey]) -> Json:
    """Return each key's bucket: as many as a minute's, filled evenly."""
    bounded = [key for key in keys if key.terms.requests_per_minute]
    if not bounded:
        return {}
    by_key = {
        "metadata": {
            "descriptor_key": "key",
            "metadata_key": {"key": KEY_METADATA, "path": [{"key": "id"}]},
        }
    }
    settings = {
        "stat_prefix": "api_keys",
        "token_bucket": _ENOUGH,
        "filter_enabled": _ALWAYS,
        "filter_enforced": _ALWAYS,
        "always_consume_default_token_bucket": False,
        "rate_limited_as_resource_exhausted": True,
        "rate_limits": [{"actions": [by_key]}],
        "descriptors": [_bucket(key.name, key.terms.requests_per_minute) for key in bounded],
    }
    return {RATE_FILTER: typed(_RATES, **settings)}


def _bucket(name: str, requests_per_minute: int) -> Json:
    at_once, seconds = fill_of(requests_per_minute)
    return {
        "entries": [{"key": "key", "value": name}],
        "token_bucket": {
            "max_tokens": requests_per_minute,
            "tokens_per_fill": at_once,
            "fill_interval": duration(seconds),
        },
    }


def _every_of(project: str) -> str:
    """Return what stands for every deployment of a project, where deployments are listed."""
    return f"{EVERY_DEPLOYMENT}/{project}"


def _allowed(principals: list[Json]) -> Json:
    policy = {"permissions": [{"any": True}], "principals": principals}
    rules = {"action": "ALLOW", "policies": {"keys": policy}}
    return typed(f"{_RBAC}.RBACPerRoute", rbac={"rules": rules})


def _allowed_of(own: list[Json], principals: list[Json]) -> Json:
    """Return settings that let these in, as far as they are of their `own` project's too.

    Denied is who is none of them, so that Envoy says by which rule: the first by name. What was
    not found is none of either, and not let in.
    """
    policies = {FOREIGN_POLICY: own, "keys": principals}
    rules = {
        "action": "DENY",
        "policies": {
            name: {
                "permissions": [{"any": True}],
                "principals": [{"not_id": {"or_ids": {"ids": ids}}}],
            }
            for name, ids in policies.items()
        },
    }
    return typed(f"{_RBAC}.RBACPerRoute", rbac={"rules": rules})


def _listed(name: str) -> Json:
    return _of_key("deployments", {"list_match": {"one_of": {"string_match": {"exact": name}}}})


def _told(path: str, match: Json) -> Json:
    return _of_key(path, {"string_match": match})


def _of_key(path: str, value: Json) -> Json:
    matcher = {"filter": KEY_METADATA, "path": [{"key": path}], "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher}}


def _script(topology: GatewayTopology, keys: Sequence[ApiKey]) -> str:
    scopes = {scope: number for number, scope in enumerate(sorted(set(map(_scope_of, keys))), 1)}
    values = {
        "KEYS": _lua_table(_key_entry(key, scopes[_scope_of(key)]) for key in keys),
        "SCOPES": _lua_table(_scope(topology, scope) for scope in scopes),
        "PLANE": _lua_text(topology.plane),
        "HEADER": _lua_text(KEY_HEADER),
        "METADATA": _lua_text(KEY_METADATA),
        "SCHEME": _lua_text(_SCHEME),
        "MODELS_PATH": _lua_text(MODELS_PATH),
        "CHARACTERS": str(CHARACTERS_MAX),
    }
    script = KEY_SCRIPT
    # The tables come last, and nothing is looked for in them: a model's name may have an @.
    for name in ("PLANE", "HEADER", "METADATA", "SCHEME", "MODELS_PATH", "CHARACTERS"):
        script = script.replace(f"@{name}@", values[name])
    before, _, rest = script.partition("@SCOPES@")
    middle, _, after = rest.partition("@KEYS@")
    return f"{before}{values['SCOPES']}{middle}{values['KEYS']}{after}"


def _key_entry(key: ApiKey, scope: int) -> str:
    ends = 0 if key.expires_at is None else int(key.expires_at.timestamp())
    retry = retry_after_seconds(key.terms.requests_per_minute)
    fields = f"id={_lua_text(key.name)},retry='{retry}',ends={ends},scope={scope}"
    return f"['{key.digest.hex()}']={{{fields}}}"


def _scope_of(key: ApiKey) -> tuple[str, tuple[str, ...]]:
    """Return whose a key is, and what it is for as routes ask for it."""
    if key.every_of_project:
        return key.project, (_every_of(key.project),)
    return key.project, key.terms.deployments


def _scope(topology: GatewayTopology, scope: tuple[str, tuple[str, ...]]) -> str:
    """Return what is the same of all keys of a project for the same deployments."""
    project, deployments = scope
    names = ",".join(map(_lua_text, deployments))
    is_all, every = deployments == (EVERY_DEPLOYMENT,), deployments == (_every_of(project),)
    models = [
        model
        for model in topology.models
        if is_all or (every and model.project == project) or model.deployment in deployments
    ]
    told = _lua_text(served_here(models))
    # Who may see everything is answered by the route.
    shown = "nil" if is_all else _lua_text(json.dumps(listing(models, topology.project)))
    whose = _lua_text(project)
    return f"{{project={whose},deployments={{{names}}},served={told},shown={shown}}}"


def _lua_table(entries: Iterable[str]) -> str:
    return "{" + ",".join(entries) + "}"


def _lua_text(text: str) -> str:
    """Return a literal of Lua, byte by byte where it is not plain."""
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b"\"'\\" else f"\\{byte:03d}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'
