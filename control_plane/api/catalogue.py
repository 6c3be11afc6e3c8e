"""Catalogue entries as messages and back: one `Collection` says how each kind is spoken of."""

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Generic

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.validation import check_full_name
from control_plane.store.catalogue import (
    ACCELERATOR_KINDS,
    REGISTERED_MODELS,
    RESERVATIONS,
    Kind,
    Value,
)
from control_plane.store.values import StoredEntry
from skerry.api.operator.v1 import accelerator_kind_pb2, base_model_pb2, reservation_pb2
from skerry.fleet.catalogue import AcceleratorKind, RegisteredModel, Reservation
from skerry.fleet.names import DEFAULT_PROJECT, InvalidName, check_name, full_name
from skerry.plumbing.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(Generic[Value]):
    """A kind of entry in the API: its message, and what requests call it."""

    kind: Kind[Value]
    value: type[Value]
    message: Any
    field: str

    @property
    def settable(self) -> frozenset[str]:
        """Return the fields that callers set."""
        return frozenset(field.name for field in fields(self.value)) - {"name"}

    def name_of(self, full: str) -> str:
        """Return the short id of an entry's full name."""
        return check_full_name(full, self.kind.collection)

    def to_proto(self, stored: StoredEntry[Value]) -> Any:
        """Return the entry's message."""
        message = self.message(
            name=full_name(DEFAULT_PROJECT, self.kind.collection, stored.value.name),
            etag=stored.etag,
            create_time=_time(stored.created_at),
            update_time=_time(stored.updated_at),
        )
        for name in self.settable:
            told = getattr(stored.value, name)
            if isinstance(told, datetime):
                getattr(message, name).CopyFrom(_time(told))
            else:
                setattr(message, name, told)
        return message

    def value_of(self, name: str, message: Any) -> Value:
        """Return the value that a message describes; InvalidInput names the field at fault."""
        told = {field: self._told(message, field) for field in self.settable}
        try:
            return self.value(name=name, **told)
        except ValueError as error:
            raise self._wrong(str(error)) from error

    def merged(self, held: Value, message: Any, mask: FieldMask) -> Value:
        """Return the held value with the masked fields of a message."""
        told = {field: self._told(message, field) for field in mask.paths}
        try:
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

    def _told(self, message: Any, field: str) -> Any:
        told = getattr(message, field)
        if not isinstance(told, Timestamp):
            return told
        if not message.HasField(field):
            raise InvalidInput(f"say the {field}", field=f"{self.field}.{field}")
        try:
            return told.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            raise InvalidInput(
                f"{field} is no time that there is", field=f"{self.field}.{field}"
            ) from None

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


def check_id(name: str, field: str) -> str:
    """Return the id of a new entry when it is a DNS label."""
    try:
        return check_name(name, "name")
    except InvalidName as error:
        raise InvalidInput(str(error), field=field) from error


def _time(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
