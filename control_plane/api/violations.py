"""What is wrong with a DeploymentSpec taken by itself, each fault with its path.

Paths are those of a deployment file (`spec.resources[0].accelerator`), so that a tool can point
at the line. `validation.py` calls it before a spec becomes a fleet value.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf.message import Message

from control_plane.api.engine_violations import accelerators_of, engine_faults
from skerry.api.common.v1 import deployment_pb2
from skerry.fleet.deployment import PRIORITY_CLASSES, REPLICAS_MAX, FailureDomain
from skerry.fleet.engine import GRAPH_SIZES_MAX, EngineName, EngineProtocol, SpeculativeMethod
from skerry.fleet.names import InvalidName, check_name
from skerry.fleet.pool import CapacityClass
from skerry.fleet.rollout import READY_SECONDS_MAX, SOAK_SECONDS_MAX, SURGE_MAX, OnFailure
from skerry.fleet.routing import (
    QUEUE_REQUESTS_MAX,
    QUEUE_SECONDS_MAX,
    RoutingPolicy,
    continuation_fault,
)
from skerry.fleet.scaling import (
    CONCURRENCY_MAX,
    CONCURRENCY_MIN,
    DEFAULT_ZONE,
    SCALE_DOWN_DELAY_SECONDS_MAX,
    SCHEDULE_SECONDS_MAX,
    SCHEDULE_SECONDS_MIN,
    SCHEDULES_MAX,
    UTILIZATION_MIN,
    WINDOW_SECONDS_MAX,
    WINDOW_SECONDS_MIN,
    Strategy,
    schedule_faults,
)
from skerry.plumbing.errors import FieldViolation

# Nobody lists more clouds, labels or options by hand; 2,048 is what browsers take of a URL.
ITEMS_MAX = 64
OPTIONS_MAX = 128
TEXT_CHARACTERS_MAX = 2_048
SERVED_NAME_CHARACTERS_MAX = 128
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
# What goes into a request body's `model` and a URL's path: no look-alikes, no way upwards.
_SERVED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")

# Where the file has the spec's own fields, and its names of others that are not just camelCase.
_SECTIONS = {
    "name": "metadata.name",
    "labels": "metadata.labels",
    "project": "metadata.project",
    "revision": "spec",
    "scaling": "spec.scaling",
    "policy": "spec.placement",
    "routing": "spec.routing",
    "rollout": "spec.rollout",
}
_NAMES = {
    "shapes": "resources",
    "accelerators": "count",
    "host_memory_bytes": "hostMemory",
    "disk_bytes": "disk",
    "ttft_seconds": "ttft",
    "tpot_seconds": "tpot",
    "window_seconds": "window",
    "scale_down_delay_seconds": "scaleDownDelay",
    "speculative": "speculativeDecoding",
    "queue_requests_max": "queue.requestsMax",
    "queue_seconds_max": "queue.secondsMax",
    "duration_seconds": "duration",
    "soak_seconds": "soak",
    "ready_seconds_max": "readyMax",
}

# Lower bound, whether it is itself allowed, upper bound; by message and field.
_Range = tuple[float, bool, float]
_ABOVE_0: _Range = (0, False, math.inf)
_FROM_0: _Range = (0, True, math.inf)
_FROM_1: _Range = (1, True, math.inf)
_RANGES: dict[str, dict[str, _Range]] = {
    "Scaling": {
        "min_replicas": (0, True, REPLICAS_MAX),
        "max_replicas": (0, True, REPLICAS_MAX),
        "window_seconds": (WINDOW_SECONDS_MIN, True, WINDOW_SECONDS_MAX),
        "scale_down_delay_seconds": (0, True, SCALE_DOWN_DELAY_SECONDS_MAX),
        "concurrency_target": (CONCURRENCY_MIN, True, CONCURRENCY_MAX),
        "target_utilization": (UTILIZATION_MIN, True, 1),
        "max_scale_down_rate": (UTILIZATION_MIN, True, 1),
        "warm_spares": (0, True, REPLICAS_MAX),
    },
    "ScalingSchedule": {
        "duration_seconds": (SCHEDULE_SECONDS_MIN, True, SCHEDULE_SECONDS_MAX),
        "min_replicas": (0, True, REPLICAS_MAX),
    },
    "ResourceShape": {
        "accelerators": _FROM_1,
        "host_memory_bytes": _FROM_0,
        "throughput_tokens_per_second": _ABOVE_0,
    },
    "ServiceObjective": {"ttft_seconds": _ABOVE_0, "tpot_seconds": _ABOVE_0},
    "PlacementPolicy": {
        "spot_share_max": (0, True, 1),
        "priority": (0, True, PRIORITY_CLASSES - 1),
        "cost_per_hour_max": _ABOVE_0,
    },
    "LatencyLimit": {"seconds_max": _ABOVE_0},
    "RoutingSpec": {
        "queue_requests_max": (0, True, QUEUE_REQUESTS_MAX),
        "queue_seconds_max": (0, False, QUEUE_SECONDS_MAX),
    },
    "RolloutPolicySpec": {
        "soak_seconds": (0, True, SOAK_SECONDS_MAX),
        "ready_seconds_max": (0, True, READY_SECONDS_MAX),
        "max_surge": (1, True, SURGE_MAX),
        "max_unavailable": (0, True, SURGE_MAX),
    },
    "Spread": {"domains_min": _FROM_1},
    "Tolerate": {"keep": (0, False, 1)},
    "EngineSpec": {"context_tokens": _FROM_1, "concurrent_requests": _FROM_1},
    "SpeculativeDecoding": {"draft_tokens": _FROM_1},
    "KvCache": {"memory_share": (0, False, 1)},
    "Batching": {"tokens_max": _FROM_1},
    "DraftLength": {"batch": _FROM_1, "tokens": _FROM_0},
    "PrefixCaching": {"host_memory_bytes": _FROM_0, "disk_bytes": _FROM_0},
    # 0 is "not told", which is 1.
    "Parallelism": {"tensor": _FROM_0, "pipeline": _FROM_0, "expert": _FROM_0, "data": _FROM_0},
    "Lora": {"rank_max": _FROM_0, "concurrent_max": _FROM_0},
    "CudaGraphs": {"batch_max": _FROM_1, "batch_sizes": _FROM_1},
    "Disaggregation": {
        # More servers than one node has accelerators are several replicas.
        "prefill_replicas": (1, True, 32),
        "decode_replicas": (1, True, 32),
        "local_prefill_tokens_max": _FROM_0,
    },
}
_LIST_LIMITS = {"schedules": SCHEDULES_MAX, "options": OPTIONS_MAX, "batch_sizes": GRAPH_SIZES_MAX}
_CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("EngineSpec", "name"): tuple(EngineName),
    # Empty is "not told", which is http.
    ("EngineSpec", "protocol"): ("", *EngineProtocol),
    ("SpeculativeDecoding", "method"): tuple(SpeculativeMethod),
    ("Spread", "domain"): tuple(FailureDomain),
    ("Tolerate", "domain"): tuple(FailureDomain),
    ("PlacementPolicy", "capacity_classes"): tuple(CapacityClass),
    # Empty is "not told", which is prefix_tokens.
    ("RoutingSpec", "policy"): ("", *RoutingPolicy),
    # Empty is "not told", which is token_work.
    ("Scaling", "strategy"): ("", *Strategy),
    # Empty is "not told", which is rollback.
    ("RolloutPolicySpec", "on_failure"): ("", *OnFailure),
}


def violations_of(spec: deployment_pb2.DeploymentSpec) -> Iterator[FieldViolation]:
    """Yield every fault of the spec that shows without looking at the fleet."""
    yield from _faults_in(spec, "")
    for check in _CHECKS:
        yield from check(spec)


def _faults_in(message: Message, path: str) -> Iterator[FieldViolation]:
    """Yield texts, numbers and lists that no field of the message may hold."""
    kind = message.DESCRIPTOR.name
    ranges = _RANGES.get(kind, {})
    for field in message.DESCRIPTOR.fields:
        where = f"{path}.{_camel(field.name)}" if path else _SECTIONS[field.name]
        value: Any = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from _map_faults(value, where)
        elif field.is_repeated:
            yield from _list_faults(kind, field.name, value, where)
        elif field.message_type is not None:
            if message.HasField(field.name):
                yield from _faults_in(value, where)
        elif isinstance(value, str):
            yield from _text_faults(value, where)
            yield from _choice_faults(_CHOICES.get((kind, field.name)), value, where)
        elif not field.has_presence or message.HasField(field.name):
            yield from _number_faults(ranges.get(field.name), value, where)


def _list_faults(kind: str, field_name: str, values: Any, where: str) -> Iterator[FieldViolation]:
    limit = _LIST_LIMITS.get(field_name, ITEMS_MAX)
    if len(values) > limit:
        yield FieldViolation(path=where, message=f"{len(values)} entries, at most {limit}")
        return
    for index, value in enumerate(values):
        place = f"{where}[{index}]"
        if isinstance(value, Message):
            yield from _faults_in(value, place)
        elif not isinstance(value, str):
            yield from _number_faults(_RANGES.get(kind, {}).get(field_name), value, place)
        else:
            yield from _text_faults(value, place)
            yield from _choice_faults(_CHOICES.get((kind, field_name)), value, place)


def _map_faults(values: Any, where: str) -> Iterator[FieldViolation]:
    if len(values) > ITEMS_MAX:
        yield FieldViolation(path=where, message=f"{len(values)} entries, at most {ITEMS_MAX}")
        return
    for key, value in sorted(values.items()):
        yield from _text_faults(key, where)
        yield from _text_faults(value, f"{where}[{_CONTROLS.sub('?', key)[:63]!r}]")


def _text_faults(text: str, where: str) -> Iterator[FieldViolation]:
    if len(text) > TEXT_CHARACTERS_MAX:
        message = f"{len(text)} characters, at most {TEXT_CHARACTERS_MAX}"
        yield FieldViolation(path=where, message=message)
    elif _CONTROLS.search(text):
        yield FieldViolation(path=where, message="has a control character; only printable text")


def _choice_faults(
    choices: tuple[str, ...] | None, text: str, where: str
) -> Iterator[FieldViolation]:
    if choices is not None and text not in choices:
        shown = _CONTROLS.sub("?", text)[:63]
        yield FieldViolation(path=where, message=f"{shown!r} is none of {', '.join(choices)}")


def _number_faults(bounds: _Range | None, value: Any, where: str) -> Iterator[FieldViolation]:
    if isinstance(value, float) and not math.isfinite(value):
        yield FieldViolation(path=where, message=f"{value} is not a finite number")
    elif bounds is not None:
        low, including, high = bounds
        if value < low or (value == low and not including) or value > high:
            least = f"at least {low:g}" if including else f"above {low:g}"
            most = "" if high == math.inf else f" and at most {high:g}"
            yield FieldViolation(path=where, message=f"{value} must be {least}{most}")


def _name_faults(spec: deployment_pb2.DeploymentSpec) -> Iterator[FieldViolation]:
    try:
        check_name(spec.name, "deployment")
    except InvalidName as error:
        yield FieldViolation(path="metadata.name", message=str(error))


def _base_model_faults(spec: deployment_pb2.DeploymentSpec) -> Iterator[FieldViolation]:
    model = spec.revision.base_model
    if not _URI.fullmatch(model.uri) or ".." in model.uri.split("/"):
        message = "must be a URI such as builtin://skerry-tiny or hf://owner/name, without `..`"
        yield FieldViolation(path="spec.baseModel.uri", message=message)
    name = model.served_name
    is_sound = len(name) <= SERVED_NAME_CHARACTERS_MAX and _SERVED_NAME.fullmatch(name)
    if not is_sound or ".." in name.split("/"):
        message = (
            f"must be 1-{SERVED_NAME_CHARACTERS_MAX} characters of A-Z, a-z, 0-9 and ._:/-,"
            " begin with a letter or digit, and have no `..`"
        )
        yield FieldViolation(path="spec.baseModel.servedName", message=message)


def _replica_faults(spec: deployment_pb2.DeploymentSpec) -> Iterator[FieldViolation]:
    scaling = spec.scaling
    if scaling.min_replicas > scaling.max_replicas:
        message = f"{scaling.min_replicas} is above maxReplicas, {scaling.max_replicas}"
        yield FieldViolation(path="spec.scaling.minReplicas", message=message)
    elif scaling.min_replicas + scaling.warm_spares > scaling.max_replicas:
        spares, most = scaling.warm_spares, scaling.max_replicas
        message = f"{spares} above minReplicas are more than maxReplicas, {most}"
        yield FieldViolation(path="spec.scaling.warmSpares", message=message)
    for index, one in enumerate(scaling.schedules[:SCHEDULES_MAX]):
        zone = one.time_zone or DEFAULT_ZONE
        for field, fault in schedule_faults(one.cron, zone, one.min_replicas, scaling.max_replicas):
            path = f"spec.scaling.schedules[{index}].{field}"
            yield FieldViolation(path=path, message=_CONTROLS.sub("?", fault))


def _shape_faults(spec: deployment_pb2.DeploymentSpec) -> Iterator[FieldViolation]:
    shapes = spec.revision.shapes
    if not shapes:
        message = "name at least one accelerator kind"
        yield FieldViolation(path="spec.resources", message=message)
    degree = accelerators_of(spec.revision.engine)
    apart = " x disaggregated servers" if spec.revision.engine.HasField("disaggregation") else ""
    kinds: set[str] = set()
    for index, shape in enumerate(shapes):
        where = f"spec.resources[{index}]"
        if not shape.accelerator or shape.accelerator in kinds:
            message = "appears twice" if shape.accelerator else "name the accelerator kind"
            yield FieldViolation(path=f"{where}.accelerator", message=message)
        kinds.add(shape.accelerator)
        if shape.accelerators >= 1 and shape.accelerators % degree:
            message = (
                f"{shape.accelerators} accelerators cannot hold tensor x pipeline x data{apart}"
                f" = {degree};"
                f" make it a multiple of {degree}"
            )
            yield FieldViolation(path=f"{where}.count", message=message)


def _routing_faults(spec: deployment_pb2.DeploymentSpec) -> Iterator[FieldViolation]:
    if fault := continuation_fault(spec.routing.continuation, spec.revision.engine.protocol):
        yield FieldViolation(path="spec.routing.continuation", message=fault)


_CHECKS: tuple[Callable[[deployment_pb2.DeploymentSpec], Iterable[FieldViolation]], ...] = (
    _name_faults,
    _base_model_faults,
    _replica_faults,
    _shape_faults,
    engine_faults,
    _routing_faults,
)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return _NAMES.get(name) or first + "".join(part.title() for part in rest)
