"""Fields of an OpenAI request that no engine is asked with: they name paths, or ask for too much.

Pure. `listeners` has the JSON filter pick them out, `route_tree` answers them before a model is
looked for. Read by a JSON parser, so no spelling of a name passes; a field that is a list where
engines take a word is left to them, which look such names up among what they loaded.
All are written into one text and looked for in it together: a state and a question for each kind
took a tenth of what the gateway adds to a request.
"""

from workload_plane.gateway.answers import fault
from workload_plane.gateway.wire import Json, extension

NAMESPACE = "skerry.fields"
# All that was picked out, as one filter state: Envoy matches no metadata before a route is chosen.
_STATE = "skerry.asked"

# As many answers to one prompt as OpenAI gives: each takes a slot and a cache of its own.
ANSWERS_MAX = 128
_COUNTS = ("n", "best_of")
# Beyond any context, and below where engines' 32 bits end.
TOKENS_MAX = 999_999_999
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# What must be a word or a number in each for an engine to take it; each costs every request half a
# microsecond of the gateway's.
_ADAPTERS = (("lora_request", "lora_name"), ("lora_path",))
# How engines that split prefill from decode tell one another where a prompt's cache is.
_WIRING = (
    ("disaggregated_params", "request_type"),
    ("kv_transfer_params", "do_remote_prefill"),
    ("kv_transfer_params", "do_remote_decode"),
    ("bootstrap_host",),
    ("bootstrap_room",),
    ("custom_logit_processor",),
)
_ADAPTER, _WIRED = "adapter", "wiring"

# A number as Envoy prints it: 1000000 may be 1e+06.
_MANY = r"(?:(?:[0-9]{4,}|[2-9][0-9]{2}|1[3-9][0-9]|129)(?:\.[0-9]+)?|128\.[0-9]+|[0-9.]+e\+[0-9]+)"
_LONG = r"(?:[0-9]{10,}(?:\.[0-9]+)?|[0-9.]+e\+(?:09|[1-9][0-9]+))"
# Of "n,best_of;max_tokens,...;adapter|wiring", the last two as a body has them: whatever that is,
# one of the last two patterns holds unless both are empty.
_REST = "(?s:.*)"
_ANY_MANY = rf"(?:[^,;]*,)*{_MANY}(?:,[^;]*)?;[^;]*;{_REST}"
_ANY_LONG = rf"[^;]*;(?:[^,;]*,)*{_LONG}(?:,[^;]*)?;{_REST}"
_ANY_ADAPTER = rf"[^;]*;[^;]*;[^|]{_REST}"
_ANY_WIRING = rf"[^;]*;[^;]*;\|(?s:.){_REST}"


def field_rules() -> list[Json]:
    """Return the rules by which the JSON filter picks the fields out."""
    numbers = [_rule((name,), name, type="NUMBER") for name in (*_COUNTS, *_LIMITS)]
    adapters = [_rule(path, _ADAPTER) for path in _ADAPTERS]
    return [*numbers, *adapters, *(_rule(path, _WIRED) for path in _WIRING)]


def field_state() -> Json:
    """Return what the filter before the routes writes down of them."""
    counts, limits = (",".join(map(_told, names)) for names in (_COUNTS, _LIMITS))
    text = f"{counts};{limits};{_told(_ADAPTER)}|{_told(_WIRED)}"
    return {
        "object_key": _STATE,
        "factory_key": "envoy.string",
        "format_string": {
            "omit_empty_values": True,
            "text_format_source": {"inline_string": text},
        },
    }


def field_fault() -> Json:
    """Return what holds of a request that has any such field, as a predicate."""
    either = (_ANY_MANY, _ANY_LONG, _ANY_ADAPTER, _ANY_WIRING)
    return _matches("|".join(f"(?:{regex})" for regex in either))


def field_faults() -> list[tuple[Json, Json]]:
    """Return pairs of what holds of a request that has such a field, and the route to its 400."""
    anywhere: Json = {"prefix": "/"}
    return [
        (
            _matches(_ANY_MANY),
            fault(
                anywhere,
                400,
                f"`n` is at most {ANSWERS_MAX}; ask again for more answers",
                code="out_of_range",
                param="n",
            ),
        ),
        (
            _matches(_ANY_LONG),
            fault(
                anywhere,
                400,
                f"`max_tokens` is at most {TOKENS_MAX}",
                code="out_of_range",
                param="max_tokens",
            ),
        ),
        (
            _matches(_ANY_ADAPTER),
            fault(
                anywhere,
                400,
                "a request names no adapter but by `model`; GET /v1/models lists those there are",
                code="unsupported_field",
                param="lora_request",
            ),
        ),
        (
            _matches(_ANY_WIRING),
            fault(
                anywhere,
                400,
                "fields by which engines speak to one another are not taken from requests",
                code="unsupported_field",
            ),
        ),
    ]


def _rule(path: tuple[str, ...], key: str, **more: str) -> Json:
    return {
        "selectors": [{"key": name} for name in path],
        "on_present": {"metadata_namespace": NAMESPACE, "key": key, **more},
    }


def _told(key: str) -> str:
    return f"%DYNAMIC_METADATA({NAMESPACE}:{key})%"


def _matches(regex: str) -> Json:
    source = extension(
        _STATE, "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput", key=_STATE
    )
    value = {"safe_regex": {"google_re2": {}, "regex": regex}}
    return {"single_predicate": {"input": source, "value_match": value}}
