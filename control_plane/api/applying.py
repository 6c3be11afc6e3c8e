"""Everything said in one call: what is wrong with any of it, and what it changes by field.

`operator_service.py` calls it around the store's `apply_wanted`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api import convert, validation
from control_plane.api.intents import intent_to_proto, intents_of, resource_of
from control_plane.api.ports import EngineCheck
from control_plane.api.views import FleetView
from control_plane.store.deployments import repeated_names
from control_plane.store.intents import AppliedAll, Wanted
from control_plane.store.snapshot import StoreSnapshot
from control_plane.store.values import ApplyOutcome
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.deployment import Deployment
from skerry.plumbing.errors import AlreadyExists, FieldViolation, InvalidInput, SkerryError
from skerry.wire.deployments import deployment_to_proto

# A file of a hundred documents is long, and a hundred specs are a moment for the store's writer.
SPECS_MAX = 100
DIFFS_MAX = 100  # a spec that differs in more is another one; the whole of it is in the answer too
DIFF_CHARACTERS_MAX = 120  # 100 x 100 x 2 of them stay well below a message's limit
# The store's to give, so no difference that anybody asked for.
_NUMBER = "revision.number"


def wanted_of(
    request: pb.ApplyRequest, project: str, store: StoreSnapshot, check_engine: EngineCheck
) -> Wanted:
    """Return what is asked for, or raise for every fault of all of it.

    AlreadyExists when nothing is wrong but served names that deployments beside these have.
    """
    fewest = 0 if request.intents else 1
    if not fewest <= len(request.specs) <= SPECS_MAX:
        told = f"{len(request.specs)} deployments; apply 1 to {SPECS_MAX} at a time"
        raise InvalidInput(told, field="specs")
    found, faults, taken = _deployments_of(request, project, store, check_engine)
    intents, wrong = intents_of(request.intents)
    faults += wrong
    if taken and not faults:
        told = f"nothing was applied: {taken[0].path}: {taken[0].message}"
        raise AlreadyExists(told, violations=tuple(taken[: validation.VIOLATIONS_MAX]))
    validation.refuse("nothing was applied", (*faults, *taken))
    return Wanted(deployments=found, etags=_etags_of(request), intents=intents)


def _deployments_of(
    request: pb.ApplyRequest, project: str, store: StoreSnapshot, check_engine: EngineCheck
) -> tuple[tuple[Deployment, ...], list[FieldViolation], list[FieldViolation]]:
    """Return the deployments that are asked for, what is wrong with any, and what is taken."""
    names = {spec.name for spec in request.specs}
    beside = tuple(held for held in store.deployments if held.deployment.name not in names)
    of_name = {held.deployment.name: held for held in store.deployments}
    found: list[tuple[int, Deployment]] = []
    faults: list[FieldViolation] = []
    taken: list[FieldViolation] = []
    for index, spec in enumerate(request.specs):
        # The others of the request may be about to give up their served names.
        own = (of_name[spec.name],) if spec.name in of_name else ()
        seen = replace(store, deployments=(*beside, *own))
        try:
            found.append((index, validation.deployment_of(spec, project, seen, check_engine)))
        except InvalidInput as error:
            faults += _of_spec(index, error)
        except AlreadyExists as error:
            taken += _of_spec(index, error)
    faults += repeated_names(found)
    return tuple(deployment for _, deployment in found), faults, taken


def _etags_of(request: pb.ApplyRequest) -> dict[str, str]:
    """Return the etags by deployment; InvalidInput for one of a deployment that is not applied."""
    names = {spec.name for spec in request.specs}
    for name in sorted(request.etags):
        if name not in names:
            raise InvalidInput(f"{name[:63]!r} is the name of none of the specs", field="etags")
        validation.check_opaque(request.etags[name], "etags")
    return dict(request.etags)


def applied_to_proto(view: FleetView, done: AppliedAll) -> pb.ApplyResponse:
    """Return what was done to each deployment and intent, or would be."""
    answer = pb.ApplyResponse()
    for one in done.deployments:
        stored = one.applied.stored
        resource = convert.deployment_to_resource(view, stored)
        if not stored.etag:  # nothing was stored: it is what would be created
            resource.ClearField("create_time")
            resource.ClearField("update_time")
        outcome = convert.outcome_to_proto(one.applied.outcome)
        diffs = () if one.before is None else diffs_between(one.before, stored.deployment)
        answer.deployments.add(deployment=resource, outcome=outcome, diffs=diffs)
    for intent in done.intents:
        applied = answer.intents.add(
            name=resource_of(intent.intent), outcome=convert.outcome_to_proto(intent.outcome)
        )
        if intent.outcome is ApplyOutcome.UPDATED and intent.before is not None:
            before = intent_to_proto(intent.before)
            applied.diffs.extend(_diffs(before, intent_to_proto(intent.intent)))
    return answer


def diffs_between(before: Deployment, after: Deployment) -> list[pb.FieldDiff]:
    """Return the fields in which two specs differ, in the spec's order, at most DIFFS_MAX."""
    return _diffs(deployment_to_proto(before), deployment_to_proto(after))


def _diffs(before: Message, after: Message) -> list[pb.FieldDiff]:
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    differing = (
        pb.FieldDiff(path=path, before=_cut(old.get(path, "")), after=_cut(new.get(path, "")))
        for path in dict.fromkeys((*new, *old))
        if path != _NUMBER and old.get(path) != new.get(path)
    )
    return [diff for diff, _ in zip(differing, range(DIFFS_MAX), strict=False)]


def _leaves(message: Message, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every field that is no message itself, unset optional ones aside."""
    for field in message.DESCRIPTOR.fields:
        value: Any = getattr(message, field.name)
        where = f"{path}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from ((f"{where}[{key}]", _text(value[key])) for key in sorted(value))
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from _leaf(item, f"{where}[{index}]")
        elif not field.has_presence or message.HasField(field.name):
            yield from _leaf(value, where)


def _leaf(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Timestamp):
        yield where, value.ToJsonString()
    elif isinstance(value, Message):
        yield from _leaves(value, f"{where}.")
    else:
        yield where, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    short = text[: DIFF_CHARACTERS_MAX - 1]
    return text if len(text) <= DIFF_CHARACTERS_MAX else f"{short}\N{HORIZONTAL ELLIPSIS}"


def _of_spec(index: int, error: SkerryError) -> list[FieldViolation]:
    return [replace(fault, path=f"specs[{index}].{fault.path}") for fault in error.violations]
