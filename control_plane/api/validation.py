"""Requests as fleet values, or InvalidInput with the path of every field at fault."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from control_plane.api.pagination import SEQUENCE_DIGITS_MAX
from control_plane.api.ports import EngineCheck
from control_plane.api.violations import violations_of
from control_plane.store.served_names import taken_served_name
from control_plane.store.snapshot import StoreSnapshot
from skerry.api.common.v1 import deployment_pb2
from skerry.api.operator.v1 import pool_pb2
from skerry.fleet.cordon import LOOKS, Part, Scope
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    ResourceShape,
    Revision,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.names import DEFAULT_PROJECT, InvalidName, check_name
from skerry.fleet.pool import PRICE_MAX, CapacityClass, PoolTerms
from skerry.fleet.project import ANY_PROJECT
from skerry.plumbing.errors import FieldViolation, InvalidInput, NotFound
from skerry.wire.deployments import deployment_from_proto, deployment_to_proto

REVISION_DIGITS_MAX = 9  # below 2**31
VIOLATIONS_MAX = 20  # enough to mend a file in one go; the rest shows on the next try
# A UUID or ULID with room to spare.
_OPAQUE = re.compile(r"[A-Za-z0-9._:-]{0,128}")
# The fleet's own defaults, as a message to copy left-out parts from.
_DEFAULTS = deployment_to_proto(
    Deployment(
        name="defaults",
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="", served_name=""),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="any"),),
        ),
    )
)


def check_parent(parent: str) -> str:
    """Return the project of `projects/PROJECT`; NotFound for any but the fleet's own."""
    return _of_fleet(check_owner(parent))


def check_owner(parent: str, field: str = "parent") -> str:
    """Return the project of `projects/PROJECT`, `-` for any; the view knows if it is there."""
    collection, _, project = parent.partition("/")
    try:
        if collection != "projects":
            raise InvalidName(f"{parent[:120]!r} must look like projects/PROJECT")
        return project if project == ANY_PROJECT else check_name(project, "project")
    except InvalidName as error:
        raise InvalidInput(str(error), field=field) from error


def check_full_name(name: str, collection: str, field: str = "name") -> str:
    """Return the short id of `projects/PROJECT/COLLECTION/ID`; NotFound as `check_parent`."""
    project, short = check_owned_name(name, collection, field)
    _of_fleet(project)
    return short


def check_owned_name(name: str, collection: str, field: str = "name") -> tuple[str, str]:
    """Return the project, `-` for any, and the short id of `projects/PROJECT/COLLECTION/ID`."""
    head, _, short = name.partition(f"/{collection}/")
    try:
        if not short:
            raise InvalidName(f"{name[:120]!r} must look like projects/PROJECT/{collection}/NAME")
        return check_owner(head, field), check_name(short, "name")
    except InvalidName as error:
        raise InvalidInput(str(error), field=field) from error


def check_opaque(text: str, field: str) -> str:
    """Return an etag or request_id when it is short and plain."""
    if not _OPAQUE.fullmatch(text):
        raise InvalidInput(
            f"{field} must be at most 128 characters of A-Z, a-z, 0-9 and ._:-", field=field
        )
    return text


def check_pool_name(name: str) -> str:
    """Return the fleet-wide id PLANE--POOL of a pool's full name."""
    return check_pool_id(check_full_name(name, "pools"), "name")


def check_pool_id(pool: str, field: str) -> str:
    """Return a pool's fleet-wide id when it looks like PLANE--POOL."""
    try:
        plane, _, short = check_name(pool, "pool").rpartition("--")
    except InvalidName as error:
        raise InvalidInput(str(error), field=field) from error
    if not plane or not short:
        raise InvalidInput(f"pool {pool!r} must look like PLANE--POOL", field=field)
    return pool


def check_part(full: str) -> Part:
    """Return the part of the fleet that `projects/PROJECT/planes/PLANE` or the like names."""
    parts = full.split("/")
    scopes = {f"{scope.value}s": scope for scope in Scope}
    if len(parts) < 4 or parts[0] != "projects" or parts[2] not in scopes:
        looks = ", ".join(f"{scope.value}s/{look}" for scope, look in LOOKS.items())
        raise InvalidInput(
            f"{full[:120]!r} must look like projects/PROJECT/ and one of {looks}", field="name"
        )
    check_parent(f"projects/{parts[1]}")
    try:
        return Part(scope=scopes[parts[2]], name="/".join(parts[3:]))
    except InvalidName as error:
        raise InvalidInput(str(error), field="name") from error


def check_price(dollars: float, field: str) -> float:
    """Return a price in USD per accelerator-hour when it is one."""
    if not (math.isfinite(dollars) and 0 <= dollars <= PRICE_MAX):
        raise InvalidInput(
            f"{dollars} must be a number of USD from 0 to {PRICE_MAX:g}", field=field
        )
    return dollars


def check_revision_name(name: str) -> tuple[str, str, int]:
    """Return project, deployment and number of `projects/P/deployments/NAME/revisions/NUMBER`."""
    head, _, number = name.rpartition("/revisions/")
    if not (number.isascii() and number.isdigit() and len(number) <= REVISION_DIGITS_MAX):
        raise InvalidInput(
            f"{name[:120]!r} must look like projects/PROJECT/deployments/NAME/revisions/NUMBER",
            field="name",
        )
    return *check_owned_name(head, "deployments"), int(number)


def named_spec(spec: deployment_pb2.DeploymentSpec, name: str) -> deployment_pb2.DeploymentSpec:
    """Return the spec under a name given beside it; InvalidInput when it says another itself."""
    if spec.name not in ("", name):
        raise InvalidInput(
            f"the spec names {spec.name[:63]!r}, the call {name[:63]!r}; leave it out of the spec",
            field="metadata.name",
        )
    named = deployment_pb2.DeploymentSpec()
    named.CopyFrom(spec)
    named.name = name
    return named


def default_spec(name: str) -> deployment_pb2.DeploymentSpec:
    """Return the spec of a deployment of which nothing was said yet; by itself it is none."""
    spec = deployment_pb2.DeploymentSpec(
        name=name, scaling=_DEFAULTS.scaling, policy=_DEFAULTS.policy
    )
    spec.revision.objective.CopyFrom(_DEFAULTS.revision.objective)
    return spec


def masked_spec(
    held: deployment_pb2.DeploymentSpec, told: deployment_pb2.DeploymentSpec, mask: FieldMask
) -> deployment_pb2.DeploymentSpec:
    """Return the held spec with what the mask names (`spec.scaling`) as it is told."""
    inner = FieldMask()
    for path in mask.paths:
        head, _, rest = path.partition(".")
        if head != "spec":
            raise InvalidInput(
                f"update_mask names {path[:80]!r}; what can be set is `spec` and what is below it",
                field="update_mask",
            )
        if not rest:
            return told
        inner.paths.append(rest)
    descriptor: Any = deployment_pb2.DeploymentSpec.DESCRIPTOR
    if not inner.IsValidForDescriptor(descriptor):
        raise InvalidInput(
            f"update_mask names a field that a spec has not: {', '.join(mask.paths)[:200]}",
            field="update_mask",
        )
    merged = deployment_pb2.DeploymentSpec()
    merged.CopyFrom(held)
    # Lists are what is told, not what is told added to what was there.
    inner.MergeMessage(told, merged, True, True)
    merged.name, merged.project = held.name, held.project
    return merged


def masked_terms(
    held: pool_pb2.PoolTerms, told: pool_pb2.PoolTerms, mask: FieldMask
) -> pool_pb2.PoolTerms:
    """Return the held terms with what the mask names (`terms.cordoned`) as it is told."""
    merged = pool_pb2.PoolTerms()
    merged.CopyFrom(held)
    for path in mask.paths:
        head, _, field = path.partition(".")
        if path == "terms":
            return told
        if head != "terms" or field not in pool_pb2.PoolTerms.DESCRIPTOR.fields_by_name:
            known = ", ".join(pool_pb2.PoolTerms.DESCRIPTOR.fields_by_name)
            raise InvalidInput(
                f"update_mask names {path[:80]!r}; set can be `terms`, and below it {known}",
                field="update_mask",
            )
        if field == "price_per_accelerator_hour" and not told.HasField(field):
            merged.ClearField(field)
        else:
            setattr(merged, field, getattr(told, field))
    return merged


def check_in_collection(name: str, collection: str) -> str:
    """Return the last part of a full name of that collection, of the fleet's own project."""
    project, short = check_owned_in(name, collection)
    _of_fleet(project)
    return short


def check_owned_in(name: str, collection: str) -> tuple[str, str]:
    """Return the project and the last part of a full name, whatever that is made of."""
    head, _, short = name.rpartition("/")
    project, _, rest = head.removeprefix("projects/").partition("/")
    if not head.startswith("projects/") or rest != collection or not short:
        raise InvalidInput(
            f"{name[:120]!r} must look like projects/PROJECT/{collection}/NAME", field="name"
        )
    return check_owner(f"projects/{project}", "name"), short[:120]


def check_numbered(name: str, collection: str) -> int:
    """Return the number of `projects/PROJECT/COLLECTION/NUMBER` of the fleet's own project."""
    project, number = check_owned_number(name, collection)
    _of_fleet(project)
    return number


def check_owned_number(name: str, collection: str) -> tuple[str, int]:
    """Return the project and the number of `projects/PROJECT/COLLECTION/NUMBER`."""
    head, _, number = name.rpartition("/")
    project, _, rest = head.removeprefix("projects/").partition("/")
    digits = number.isascii() and number.isdigit() and len(number) <= SEQUENCE_DIGITS_MAX
    if not head.startswith("projects/") or rest != collection or not digits:
        raise InvalidInput(
            f"{name[:120]!r} must look like projects/PROJECT/{collection}/NUMBER", field="name"
        )
    return check_owner(f"projects/{project}", "name"), int(number)


def check_sequence(sequence: int) -> int:
    """Return a change's number to start from; InvalidInput when it is negative."""
    if sequence < 0:
        raise InvalidInput(f"from_sequence {sequence} is negative", field="from_sequence")
    return sequence


def terms_of(message: pool_pb2.PoolTerms, where: str = "terms") -> PoolTerms:
    """Return an operator's terms of a pool; faults name the path `where` and their field."""
    faults = []
    price = (
        message.price_per_accelerator_hour
        if message.HasField("price_per_accelerator_hour")
        else None
    )
    if price is not None and not (math.isfinite(price) and 0 <= price <= PRICE_MAX):
        text = f"{price} must be a number of USD from 0 to {PRICE_MAX:g}"
        faults.append(FieldViolation(path=f"{where}.price_per_accelerator_hour", message=text))
    if message.capacity_class not in tuple(CapacityClass):
        text = f"{message.capacity_class[:63]!r} is none of {', '.join(CapacityClass)}"
        faults.append(FieldViolation(path=f"{where}.capacity_class", message=text))
    refuse("the pool's terms are wrong", tuple(faults))
    return PoolTerms(
        capacity_class=CapacityClass(message.capacity_class),
        price_per_accelerator_hour=price,
        cordoned=message.cordoned,
    )


def deployment_of(
    spec: deployment_pb2.DeploymentSpec,
    project: str,
    store: StoreSnapshot,
    check_engine: EngineCheck,
) -> Deployment:
    """Return the deployment that a spec asks for, when this fleet could ever serve it.

    AlreadyExists when another deployment has its served name.
    """
    whole = _with_defaults(spec, project)
    what = f"deployment {spec.name[:63]!r} cannot be applied"
    refuse(what, (*violations_of(whole), *_project_faults(whole, project)))
    try:
        deployment = deployment_from_proto(whole)
    except ValueError as error:
        raise InvalidInput(f"{what}: {error}", field="spec") from error
    refuse(what, (*_accelerator_faults(deployment, store), *check_engine(deployment)))
    _check_served_name(deployment, store)
    return _numbered(deployment, store)


def refuse(what: str, violations: tuple[FieldViolation, ...]) -> None:
    """Raise InvalidInput for the violations, if there are any."""
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidInput(
            f"{what}: {first.path}: {first.message}{more}",
            violations=violations[:VIOLATIONS_MAX],
        )


def _with_defaults(
    spec: deployment_pb2.DeploymentSpec, project: str
) -> deployment_pb2.DeploymentSpec:
    """Fill in whole parts that were left out; a part that is there is taken as it is."""
    whole = deployment_pb2.DeploymentSpec()
    whole.CopyFrom(spec)
    whole.project = spec.project or project
    if not whole.HasField("scaling"):
        whole.scaling.CopyFrom(_DEFAULTS.scaling)
    if not whole.HasField("policy"):
        whole.policy.CopyFrom(_DEFAULTS.policy)
    if not whole.revision.HasField("objective"):
        whole.revision.objective.CopyFrom(_DEFAULTS.revision.objective)
    if not whole.revision.base_model.served_name:
        whole.revision.base_model.served_name = spec.name
    return whole


def _project_faults(spec: deployment_pb2.DeploymentSpec, project: str) -> Iterator[FieldViolation]:
    if spec.project != project:
        message = f"must be the parent's project {project!r}, or left out"
        yield FieldViolation(path="metadata.project", message=message)


def _accelerator_faults(deployment: Deployment, store: StoreSnapshot) -> Iterator[FieldViolation]:
    kinds = sorted({stored.pool.shape.accelerator for stored in store.pools})
    if not kinds:
        return  # no plane has reported yet: not knowing is not "there is none"
    for index, shape in enumerate(deployment.revision.shapes):
        if shape.accelerator not in kinds:
            message = (
                f"no pool of the fleet has accelerator {shape.accelerator[:63]!r};"
                f" there are {', '.join(kinds)}"
            )
            yield FieldViolation(path=f"spec.resources[{index}].accelerator", message=message)


def _check_served_name(deployment: Deployment, store: StoreSnapshot) -> None:
    served = deployment.revision.base_model.served_name
    for stored in store.deployments:
        other = stored.deployment
        if other.revision.base_model.served_name == served and other.name != deployment.name:
            own = other.project == deployment.project
            raise taken_served_name(served, other.name if own else None)


def _numbered(deployment: Deployment, store: StoreSnapshot) -> Deployment:
    """Give the revision the number it has now; the store alone gives new ones."""
    stored = (stored.deployment for stored in store.deployments)
    held = next((held for held in stored if held.name == deployment.name), None)
    number = held.revision.number if held else 1
    return replace(deployment, revision=replace(deployment.revision, number=number))


def _of_fleet(project: str) -> str:
    if project not in (DEFAULT_PROJECT, ANY_PROJECT):
        raise NotFound(
            f"there is none in project {project!r}: what the fleet shares is in"
            f" {DEFAULT_PROJECT!r}, for credentials of that"
        )
    return project
