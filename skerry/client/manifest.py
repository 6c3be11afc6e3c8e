"""Files that operators apply: YAML text to fleet values, every fault with its file, line and field.

`skerry apply`, `diff`, `plan` and whoever scripts in Python call `read_objects`; all documents of a
file are read before one is used, so that a bad one leaves nothing half applied.
"""

from collections.abc import Mapping, Sequence

import pydantic

from skerry.client import manifest_schema as schema
from skerry.client.manifest_engine import read_engine
from skerry.client.manifest_faults import faults_of, joined, placed, suggest
from skerry.client.manifest_intents import FILE_KINDS, label_of, noun_of, read_intent
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    ServiceObjective,
    Spread,
    Tolerate,
)
from skerry.fleet.engine import EngineSpec
from skerry.fleet.intent import Intent, subject_of
from skerry.fleet.rollout import RolloutPolicy
from skerry.fleet.routing import Routing, continuation_fault
from skerry.fleet.scaling import FloorSchedule, schedule_faults
from skerry.plumbing import yaml_document
from skerry.plumbing.errors import InvalidInput

Object = Deployment | Intent

OBJECTS_MAX = 2_000  # of one file; past it a file is better several
# By what `kind` says.
FILES: Mapping[str, type[schema.Part]] = {
    "Deployment": schema.DeploymentFile,
    **{name: kind.file for name, kind in FILE_KINDS.items()},
}


def read_manifests(text: bytes, source: str) -> tuple[Deployment, ...]:
    """Return the deployments of a file, whatever else it says; raises as `read_objects` does."""
    return tuple(one for one in read_objects(text, source) if isinstance(one, Deployment))


def read_objects(text: bytes, source: str) -> tuple[Object, ...]:
    """Return what a file says, in its order.

    InvalidInput says `source:line:column: field: fault` for each fault of the file, ten at most.
    """
    documents = yaml_document.parse(text, source)
    if len(documents) > OBJECTS_MAX:
        raise InvalidInput(f"{source}: {len(documents)} documents; at most {OBJECTS_MAX}")
    found: list[tuple[yaml_document.Document, Object]] = []
    faults: list[InvalidInput] = []
    for document in documents:
        try:
            found.append((document, _read_document(document)))
        except InvalidInput as fault:
            faults.append(fault)
    if not faults:
        faults = _clashes(found)
    if faults:
        raise joined(faults)
    return tuple(one for _, one in found)


def in_words(one: Object) -> str:
    """Return what people call an object, e.g. `reservation 'gpu-2026'`."""
    if isinstance(one, Deployment):
        return f"deployment {one.name!r}"
    return f"{noun_of(one)} {label_of(one)!r}"


def _clashes(found: Sequence[tuple[yaml_document.Document, Object]]) -> list[InvalidInput]:
    """Return a fault for each document that is about the same as one before it."""
    faults = []
    subjects: set[object] = set()
    served: dict[str, str] = {}
    for document, one in found:
        subject = one.name if isinstance(one, Deployment) else subject_of(one)
        if subject in subjects:
            told = f"{in_words(one)} is in this file twice"
            faults.append(document.fault(("metadata", "name"), told))
        subjects.add(subject)
        if isinstance(one, Deployment):
            served_name = one.revision.base_model.served_name
            if (other := served.setdefault(served_name, one.name)) != one.name:
                told = f"{served_name!r} is served by deployment {other!r} of this file already"
                faults.append(document.fault(("spec", "baseModel", "servedName"), told))
    return faults


def _read_document(document: yaml_document.Document) -> Object:
    if not isinstance(document.value, dict):
        raise document.fault((), "must be a mapping that begins with apiVersion: skerry/v1")
    kind = document.value.get("kind")
    if not isinstance(kind, str) or kind not in FILES:
        raise _unknown_kind(document, document.value)
    try:
        parsed = FILES[kind].model_validate(document.value)
    except pydantic.ValidationError as error:
        raise faults_of(document, FILES[kind], error) from None
    if isinstance(parsed, schema.DeploymentFile):
        return _to_deployment(parsed, document)
    return read_intent(FILE_KINDS[kind], parsed, document)


def _unknown_kind(document: yaml_document.Document, value: Mapping[str, object]) -> InvalidInput:
    """Return the fault of a document of no kind; what else is wrong with it, its kind decides."""
    kinds = ", ".join(map(repr, FILES))
    if "kind" not in value:
        return document.fault(("kind",), f"is required: one of {kinds}")
    kind = value["kind"]
    near = suggest(kind, tuple(FILES)) if isinstance(kind, str) else ""
    hint = near if near.startswith("; did") else ""
    return document.fault(("kind",), f"must be {kinds}{hint}")


def _to_deployment(parsed: schema.DeploymentFile, document: yaml_document.Document) -> Deployment:
    spec = parsed.spec
    served_name = spec.base_model.served_name or parsed.metadata.name
    engine = read_engine(spec.engine, document)
    shapes = _to_shapes(spec, engine.accelerators, document)
    with placed(document, "spec", "resources"):
        revision = Revision(
            number=1,
            base_model=BaseModel(uri=spec.base_model.uri, served_name=served_name),
            engine=engine,
            shapes=shapes,
            objective=ServiceObjective(
                ttft_seconds=spec.objective.ttft, tpot_seconds=spec.objective.tpot
            ),
        )
    scaling = _to_scaling(spec.scaling, document)
    policy = _to_policy(spec.placement, document)
    with placed(document, "metadata", "name"):
        return Deployment(
            name=parsed.metadata.name,
            labels=tuple(sorted(parsed.metadata.labels.items())),
            revision=revision,
            scaling=scaling,
            policy=policy,
            routing=_to_routing(spec.routing, engine, document),
            rollout=_to_rollout(spec.rollout),
        )


def _to_shapes(
    spec: schema.Spec, degree: int, document: yaml_document.Document
) -> tuple[ResourceShape, ...]:
    apart = " x disaggregated servers" if spec.engine.disaggregation else ""
    for index, part in enumerate(spec.resources):
        if part.count % degree:
            message = (
                f"{part.count} accelerators cannot hold tensor x pipeline x data{apart}"
                f" = {degree};"
                f" make it a multiple of {degree}"
            )
            raise document.fault(("spec", "resources", index, "count"), message)
    return tuple(
        ResourceShape(
            accelerator=part.accelerator,
            accelerators=part.count,
            host_memory_bytes=part.host_memory,
            throughput_tokens_per_second=part.throughput_tokens_per_second,
        )
        for part in spec.resources
    )


def _to_scaling(part: schema.ScalingPart, document: yaml_document.Document) -> Scaling:
    maximum = max(part.min_replicas, 1) if part.max_replicas is None else part.max_replicas
    if part.min_replicas > maximum:
        message = f"{part.min_replicas} is above maxReplicas, {maximum}"
        raise document.fault(("spec", "scaling", "minReplicas"), message)
    if part.min_replicas + part.warm_spares > maximum:
        message = f"{part.warm_spares} above minReplicas are more than maxReplicas, {maximum}"
        raise document.fault(("spec", "scaling", "warmSpares"), message)
    return Scaling(
        min_replicas=part.min_replicas,
        max_replicas=maximum,
        window_seconds=part.window,
        scale_down_delay_seconds=part.scale_down_delay,
        concurrency_target=part.concurrency_target,
        target_utilization=part.target_utilization,
        max_scale_down_rate=part.max_scale_down_rate,
        strategy=part.strategy,
        schedules=tuple(
            _to_schedule(one, maximum, index, document) for index, one in enumerate(part.schedules)
        ),
        paused=part.paused,
        warm_spares=part.warm_spares,
    )


def _to_schedule(
    part: schema.SchedulePart, maximum: int, index: int, document: yaml_document.Document
) -> FloorSchedule:
    here = ("spec", "scaling", "schedules", index)
    faults = schedule_faults(part.cron, part.time_zone, part.min_replicas, maximum)
    for field, fault in faults:
        raise document.fault((*here, field), fault)
    return FloorSchedule(
        cron=part.cron,
        seconds=part.duration,
        min_replicas=part.min_replicas,
        time_zone=part.time_zone,
    )


def _to_routing(
    part: schema.RoutingPart, engine: EngineSpec, document: yaml_document.Document
) -> Routing:
    if fault := continuation_fault(part.continuation, engine.protocol):
        raise document.fault(("spec", "routing", "continuation"), fault)
    return Routing(
        policy=part.policy,
        continuation=part.continuation,
        queue_requests_max=part.queue.requests_max,
        queue_seconds_max=part.queue.seconds_max,
    )


def _to_rollout(part: schema.RolloutPart) -> RolloutPolicy:
    return RolloutPolicy(
        soak_seconds=part.soak,
        ready_seconds_max=part.ready_max,
        max_surge=part.max_surge,
        max_unavailable=part.max_unavailable,
        on_failure=part.on_failure,
    )


def _to_policy(part: schema.PlacementPart, document: yaml_document.Document) -> PlacementPolicy:
    spread, tolerate = part.spread, part.tolerate
    with placed(document, "spec", "placement"):
        return PlacementPolicy(
            clouds=tuple(part.clouds),
            regions=tuple(part.regions),
            residency_zones=tuple(part.residency_zones),
            capacity_classes=tuple(c.value for c in part.capacity_classes),
            spread=Spread(domain=spread.domain, domains_min=spread.domains_min) if spread else None,
            tolerate=Tolerate(domain=tolerate.domain, keep=tolerate.keep) if tolerate else None,
            priority=part.priority,
            cost_per_hour_max=part.cost_per_hour_max,
            spot_share_max=part.spot_share_max,
            anti_affinity=tuple(part.anti_affinity),
            latency=tuple(
                LatencyLimit(client_region=limit.from_, seconds_max=limit.max)
                for limit in part.latency
            ),
            fail_back=part.fail_back,
        )
