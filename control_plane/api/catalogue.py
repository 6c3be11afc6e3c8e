"""Catalogue entries as messages and back: one `Collection` says how each kind is spoken of."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Generic

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.times import moment_of, time_to_proto
from control_plane.api.validation import check_full_name, check_parent
from control_plane.store.catalogue import (
    ACCELERATOR_KINDS,
    CLOUDS,
    PROFILES,
    REGIONS,
    REGISTERED_MODELS,
    RESERVATIONS,
    Kind,
    Merge,
    Value,
)
from control_plane.store.values import StoredEntry, StoredPlane
from skerry.api.operator.v1 import (
    accelerator_kind_pb2,
    base_model_pb2,
    cloud_pb2,
    profile_pb2,
    region_pb2,
    reservation_pb2,
)
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.cordon import LOOKS, Part, Scope, names_of
from skerry.fleet.names import DEFAULT_PROJECT, InvalidName, check_name, full_name
from skerry.fleet.profile import Profile
from skerry.plumbing.errors import InvalidInput
from skerry.wire.profiles import steps_from_proto, steps_to_proto

_STEPS = "steps"  # of a profile: the only field of messages of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(Generic[Value]):
    """A kind of entry in the API: its message, and what requests call it.

    Entries of a `scope` are also those that planes report to lie in, registered or not.
    """

    kind: Kind[Value]
    value: type[Value]
    message: Any
    field: str
    scope: Scope | None = None

    @property
    def settable(self) -> frozenset[str]:
        """Return the fields that callers set."""
        return frozenset(field.name for field in fields(self.value)) - {"name"}

    def name_of(self, full: str) -> str:
        """Return the short id of an entry's full name."""
        collection = self.kind.collection
        if self.scope is None:
            return check_full_name(full, collection)
        head, _, name = full.partition(f"/{collection}/")
        if not head.startswith("projects/") or not name:
            raise InvalidInput(
                f"{full[:120]!r} must look like projects/PROJECT/{collection}/{LOOKS[self.scope]}",
                field="name",
            )
        check_parent(head)
        return self._part(name, "name")

    def new_name(self, name: str) -> str:
        """Return the short id of a new entry as it is; InvalidInput where it cannot be one."""
        return self._part(name, f"{self.field}_id")

    def planes_in(self, planes: Iterable[StoredPlane]) -> Mapping[str, list[str]]:
        """Return the names of planes by the entry that they report to lie in.

        Planes may call their cloud or region what no entry can be called; those are left out.
        """
        found: dict[str, list[str]] = {}
        if self.scope is None:
            return found
        for plane in planes:
            place = names_of(plane.identity)[self.scope]
            with contextlib.suppress(InvalidName):
                part = Part(scope=self.scope, name=place)
                found.setdefault(part.name, []).append(plane.identity.name)
        return found

    def as_reported(self, name: str, planes: Iterable[str]) -> Any:
        """Return the message of an entry that planes report and nobody registered."""
        full = full_name(DEFAULT_PROJECT, self.kind.collection, name)
        return self.message(name=full, planes=planes)

    def to_proto(self, stored: StoredEntry[Value], planes: Iterable[str] = ()) -> Any:
        """Return the entry's message, with the planes there where it is of a scope."""
        message = self.message(
            name=full_name(DEFAULT_PROJECT, self.kind.collection, stored.value.name),
            etag=stored.etag,
            create_time=time_to_proto(stored.created_at),
            update_time=time_to_proto(stored.updated_at),
        )
        for name in self.settable:
            told = getattr(stored.value, name)
            if isinstance(told, datetime):
                getattr(message, name).CopyFrom(time_to_proto(told))
            elif name == _STEPS:
                message.steps.extend(steps_to_proto(told))
            elif isinstance(told, tuple):
                getattr(message, name).update(told)
            else:
                setattr(message, name, told)
        if self.scope is not None:
            message.planes.extend(planes)
        return message

    def value_of(self, name: str, message: Any) -> Value:
        """Return the value that a message describes; InvalidInput names the field at fault."""
        try:
            told = {field: self._told(message, field) for field in self.settable}
            return self.value(name=name, **told)
        except ValueError as error:
            raise self._wrong(str(error)) from error

    def merge_of(self, name: str, message: Any, mask: FieldMask) -> Merge[Value]:
        """Return a masked update: what it asks, and what it makes of the value that is held."""
        body = message.SerializeToString(deterministic=True).hex()
        return Merge(
            name=name,
            text=" ".join((body, *mask.paths)),
            into=lambda held: self._merged(name, held, message, mask),
        )

    def _merged(self, name: str, held: Value | None, message: Any, mask: FieldMask) -> Value:
        """Return the held value with the masked fields of a message, or one of those alone."""
        if held is None:
            alone = self.message()
            alone.CopyFrom(message)
            for field in self.settable.difference(mask.paths):
                alone.ClearField(field)
            return self.value_of(name, alone)
        try:
            told = {field: self._told(message, field) for field in mask.paths}
            return replace(held, **told)
        except ValueError as error:
            raise self._wrong(str(error)) from error

    def check_mask(self, mask: FieldMask) -> None:
        """Raise InvalidInput for a mask that names what cannot be set."""
        unknown = sorted(set(mask.paths) - self.settable)
        if unknown:
            raise InvalidInput(
                f"update_mask names {unknown[0][:80]!r}; what can be set is"
                f" {', '.join(sorted(self.settable))}",
                field="update_mask",
            )

    def _part(self, name: str, field: str) -> str:
        try:
            if self.scope is None:
                return check_name(name, "name")
            return Part(scope=self.scope, name=name).name
        except InvalidName as error:
            raise InvalidInput(str(error), field=field) from error

    def _told(self, message: Any, field: str) -> Any:
        told = getattr(message, field)
        if field == _STEPS:
            return steps_from_proto(told)
        if isinstance(told, Mapping):
            return tuple(sorted(told.items()))
        if not isinstance(told, Timestamp):
            return told
        return moment_of(message, field, f"{self.field}.{field}")

    def _wrong(self, message: str) -> InvalidInput:
        first = message.partition(" ")[0]
        path = f"{self.field}.{first}" if first in self.settable else self.field
        return InvalidInput(message, field=path)


ACCELERATORS = Collection(
    kind=ACCELERATOR_KINDS,
    value=AcceleratorKind,
    message=accelerator_kind_pb2.AcceleratorKind,
    field="accelerator_kind",
)
MODELS = Collection(
    kind=REGISTERED_MODELS,
    value=RegisteredModel,
    message=base_model_pb2.BaseModel,
    field="base_model",
)
RESERVED = Collection(
    kind=RESERVATIONS,
    value=Reservation,
    message=reservation_pb2.Reservation,
    field="reservation",
)
SITES = Collection(
    kind=CLOUDS,
    value=Cloud,
    message=cloud_pb2.Cloud,
    field="cloud",
    scope=Scope.CLOUD,
)
PLACES = Collection(
    kind=REGIONS,
    value=Region,
    message=region_pb2.Region,
    field="region",
    scope=Scope.REGION,
)
MEASURED = Collection(
    kind=PROFILES,
    value=Profile,
    message=profile_pb2.Profile,
    field="profile",
)
