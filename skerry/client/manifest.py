"""Deployment files: YAML text to fleet values, every fault with its file, line and field.

`skerry apply`, `plan` and whoever scripts in Python call `read_manifests`; all documents of a
file are read before one is used, so that a bad one leaves nothing half applied.
"""

import contextlib
import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from skerry.client import manifest_schema as schema
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
from skerry.fleet.engine import (
    Disaggregation,
    EngineSpec,
    Parallelism,
    PrefixCaching,
    Quantisation,
    SpeculativeDecoding,
)
from skerry.plumbing import yaml_document
from skerry.plumbing.errors import FieldViolation, InvalidInput

DEPLOYMENTS_MAX = 1_000  # of one file; also what one transaction is asked to hold
_FAULTS_SHOWN_MAX = 10  # a file of the wrong kind has one in each line

Path = tuple[str | int, ...]

# pydantic's error types in the words of this project; `{...}` is filled from the error's context.
_MESSAGES: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "list_type": "must be a list",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "too_short": "needs at least {min_length} entry",
    "too_long": "takes at most {max_length} entries",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
}


def read_manifests(text: bytes, source: str) -> tuple[Deployment, ...]:
    """Return the deployments of a file; InvalidInput says `source:line:column: field: fault`."""
    documents = yaml_document.parse(text, source)
    if len(documents) > DEPLOYMENTS_MAX:
        raise InvalidInput(f"{source}: {len(documents)} documents; at most {DEPLOYMENTS_MAX}")
    deployments: dict[str, Deployment] = {}
    served: dict[str, str] = {}
    for document in documents:
        deployment = _read_document(document)
        if deployment.name in deployments:
            message = f"deployment {deployment.name!r} is in this file twice"
            raise document.fault(("metadata", "name"), message)
        deployments[deployment.name] = deployment
        served_name = deployment.revision.base_model.served_name
        if (other := served.setdefault(served_name, deployment.name)) != deployment.name:
            message = f"{served_name!r} is served by deployment {other!r} of this file already"
            raise document.fault(("spec", "baseModel", "servedName"), message)
    return tuple(deployments.values())


def _read_document(document: yaml_document.Document) -> Deployment:
    if not isinstance(document.value, dict):
        raise document.fault((), "must be a mapping that begins with apiVersion: skerry/v1")
    try:
        parsed = schema.DeploymentFile.model_validate(document.value)
    except pydantic.ValidationError as error:
        raise _join(document, error) from None
    return _to_deployment(parsed, document)


def _to_deployment(parsed: schema.DeploymentFile, document: yaml_document.Document) -> Deployment:
    spec = parsed.spec
    served_name = spec.base_model.served_name or parsed.metadata.name
    engine = _to_engine(spec.engine, document)
    shapes = _to_shapes(spec, document)
    with _placed(document, "spec", "resources"):
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
    with _placed(document, "metadata", "name"):
        return Deployment(
            name=parsed.metadata.name,
            labels=tuple(sorted(parsed.metadata.labels.items())),
            revision=revision,
            scaling=scaling,
            policy=policy,
        )


def _to_engine(part: schema.EnginePart, document: yaml_document.Document) -> EngineSpec:
    speculative = None
    if (drafting := part.speculative_decoding) is not None:
        with _placed(document, "spec", "engine", "speculativeDecoding"):
            speculative = SpeculativeDecoding(
                method=drafting.method,
                draft_tokens=drafting.draft_tokens,
                draft_model_uri=drafting.draft_model_uri,
            )
    disaggregation = None
    if (apart := part.disaggregation) is not None:
        disaggregation = Disaggregation(
            prefill_replicas=apart.prefill_replicas,
            decode_replicas=apart.decode_replicas,
            local_prefill_tokens_max=apart.local_prefill_tokens_max,
        )
    return EngineSpec(
        name=part.name,
        context_tokens=part.context_tokens,
        concurrent_requests=part.concurrent_requests,
        quantisation=Quantisation(
            weights=part.quantisation.weights, kv_cache=part.quantisation.kv_cache
        ),
        speculative=speculative,
        prefix_caching=PrefixCaching(
            enabled=part.prefix_caching.enabled, host_memory_bytes=part.prefix_caching.host_memory
        ),
        parallelism=Parallelism(
            tensor=part.parallelism.tensor,
            pipeline=part.parallelism.pipeline,
            expert=part.parallelism.expert,
            attention_data_parallel=part.parallelism.attention_data_parallel,
        ),
        disaggregation=disaggregation,
        options=tuple((name, _option_text(value)) for name, value in part.options.items()),
    )


def _option_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _to_shapes(spec: schema.Spec, document: yaml_document.Document) -> tuple[ResourceShape, ...]:
    degree = spec.engine.parallelism.tensor * spec.engine.parallelism.pipeline
    for index, part in enumerate(spec.resources):
        if part.count % degree:
            message = (
                f"{part.count} accelerators cannot hold tensor x pipeline = {degree};"
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
    return Scaling(
        min_replicas=part.min_replicas,
        max_replicas=maximum,
        window_seconds=part.window,
        scale_down_delay_seconds=part.scale_down_delay,
        concurrency_target=part.concurrency_target,
        target_utilization=part.target_utilization,
    )


def _to_policy(part: schema.PlacementPart, document: yaml_document.Document) -> PlacementPolicy:
    spread, tolerate = part.spread, part.tolerate
    with _placed(document, "spec", "placement"):
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
        )


@contextlib.contextmanager
def _placed(document: yaml_document.Document, *path: str | int) -> Iterator[None]:
    """Give a fleet value's refusal the place in the file that it is about."""
    try:
        yield
    except ValueError as error:
        raise document.fault(path, str(error)) from None


def _join(document: yaml_document.Document, error: pydantic.ValidationError) -> InvalidInput:
    faults: dict[str, InvalidInput] = {}
    for item in error.errors(include_url=False, include_input=False):
        path, message = _explain(item["loc"], item["type"], item["msg"], item.get("ctx") or {})
        fault = document.fault(path, message)
        faults.setdefault(fault.message, fault)
    # Unlike the schema's, the reader's order is the file's.
    ordered = sorted(faults.values(), key=lambda f: _line_of(f.message, document.source))
    shown = ordered[:_FAULTS_SHOWN_MAX]
    lines = [fault.message for fault in shown]
    if len(ordered) > len(shown):
        lines.append(f"and {len(ordered) - len(shown)} more faults")
    violations = tuple(
        FieldViolation(path=v.path, message=v.message) for f in shown for v in f.violations
    )
    return InvalidInput("\n".join(lines), violations=violations)


def _line_of(message: str, source: str) -> tuple[int, int]:
    line, column, _ = message.removeprefix(f"{source}:").split(":", 2)
    return int(line), int(column)


def _explain(location: Path, kind: str, text: str, context: Mapping[str, Any]) -> tuple[Path, str]:
    if location and location[-1] == "[key]":
        return location[:-1], "the key must be printable text"
    if "options" in location and len(location) > 4:
        # Every branch of the union of scalars complains; one sentence says it.
        return location[:4], "must be text, a number, true or false"
    if kind == "extra_forbidden":
        return location, f"unknown field{_suggest(location)}"
    if kind == "value_error":
        return location, str(context.get("error", text))
    if kind == "string_pattern_mismatch":
        is_uri = str(location[-1]).lower().endswith("uri")
        example = "must be a URI such as hf://ORGANISATION/NAME or builtin://skerry-tiny"
        return location, example if is_uri else "must be printable text"
    template = _MESSAGES.get(kind)
    return location, template.format(**context) if template else text


def _suggest(location: Path) -> str:
    names = _fields_at(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known here: {', '.join(names)}" if names else ""


def _fields_at(path: Sequence[str | int]) -> list[str]:
    """Return the names of the fields that a mapping at the path may have."""
    part: Any = schema.DeploymentFile
    for step in path:
        if isinstance(step, str):
            part = next((f.annotation for f in part.model_fields.values() if f.alias == step), None)
        part = _model_in(part)
        if part is None:
            return []
    return [field.alias or name for name, field in part.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    """Return the schema's class inside an annotation such as `list[Part]` or `Part | None`."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation if issubclass(annotation, schema.Part) else None
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)
