"""Calls of the CatalogueService as values; `skerry.client.operator` makes them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Generic

from google.protobuf.timestamp_pb2 import Timestamp

from skerry.api.operator.v1 import (
    accelerator_kind_pb2,
    base_model_pb2,
    cloud_pb2,
    cordon_pb2,
    price_pb2,
    profile_pb2,
    region_pb2,
    reservation_pb2,
)
from skerry.api.operator.v1 import catalogue_service_pb2 as messages
from skerry.client import rows
from skerry.client.operator_calls import (
    EVERY,
    WRITE_SECONDS_MAX,
    Call,
    Page,
    Which,
    page_call,
    page_fields,
)
from skerry.client.rows import Value
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.names import full_name
from skerry.fleet.profile import Profile
from skerry.wire.profiles import steps_from_proto, steps_to_proto


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryKind(Generic[Value]):
    """A kind of entry: how the API speaks of it."""

    collection: str
    noun: str  # as in the methods: GetNoun
    field: str
    value: type[Value]
    message: Any


ACCELERATOR_KINDS = EntryKind(
    collection="acceleratorKinds",
    noun="AcceleratorKind",
    field="accelerator_kind",
    value=AcceleratorKind,
    message=accelerator_kind_pb2.AcceleratorKind,
)
BASE_MODELS = EntryKind(
    collection="baseModels",
    noun="BaseModel",
    field="base_model",
    value=RegisteredModel,
    message=base_model_pb2.BaseModel,
)
RESERVATIONS = EntryKind(
    collection="reservations",
    noun="Reservation",
    field="reservation",
    value=Reservation,
    message=reservation_pb2.Reservation,
)
CLOUDS = EntryKind(
    collection="clouds", noun="Cloud", field="cloud", value=Cloud, message=cloud_pb2.Cloud
)
REGIONS = EntryKind(
    collection="regions", noun="Region", field="region", value=Region, message=region_pb2.Region
)
PROFILES = EntryKind(
    collection="profiles",
    noun="Profile",
    field="profile",
    value=Profile,
    message=profile_pb2.Profile,
)
# Those that operators say, by what `skerry get` calls them.
ENTRY_KINDS: Mapping[str, EntryKind[Any]] = {
    "accelerator-kinds": ACCELERATOR_KINDS,
    "base-models": BASE_MODELS,
    "reservations": RESERVATIONS,
    "clouds": CLOUDS,
    "regions": REGIONS,
}
# With what is measured: no file says it.
LISTED_KINDS: Mapping[str, EntryKind[Any]] = {**ENTRY_KINDS, "profiles": PROFILES}
_STEPS = "steps"  # of a profile: the only field of messages of their own


def list_entries(
    project: str, kind: EntryKind[Value], token: str, which: Which = EVERY
) -> Call[Page[rows.EntryRow[Value]]]:
    """Return the call for a page of entries of a kind."""
    make = getattr(messages, f"List{kind.noun}sRequest")
    request = make(**page_fields(project, token), **which.fields())
    return page_call(f"List{kind.noun}s", request, f"{kind.field}s", lambda m: _entry(kind, m))


def get_entry(project: str, kind: EntryKind[Value], name: str) -> Call[rows.EntryRow[Value]]:
    """Return the call for one entry."""
    request = getattr(messages, f"Get{kind.noun}Request")(
        name=full_name(project, kind.collection, name)
    )
    return Call(method=f"Get{kind.noun}", request=request, read=lambda m: _entry(kind, m))


def set_entry(
    project: str, kind: EntryKind[Value], value: Value, etag: str, request_id: str
) -> Call[rows.EntryRow[Value]]:
    """Return the call that creates an entry or puts the value in its place."""
    message = entry_message(project, kind, value)
    message.etag = etag
    request = getattr(messages, f"Update{kind.noun}Request")(
        **{kind.field: message}, allow_missing=True, request_id=request_id
    )
    return Call(
        method=f"Update{kind.noun}",
        request=request,
        read=lambda m: _entry(kind, m),
        seconds_max=WRITE_SECONDS_MAX,
    )


def entry_message(project: str, kind: EntryKind[Value], value: Value) -> Any:
    """Return an entry's message, without an etag."""
    message = kind.message(name=full_name(project, kind.collection, value.name))
    for field in fields(kind.value):
        told = getattr(value, field.name)
        if field.name == "name":
            continue
        if isinstance(told, datetime):
            getattr(message, field.name).FromDatetime(told)
        elif field.name == _STEPS:
            message.steps.extend(steps_to_proto(told))
        elif isinstance(told, tuple):
            getattr(message, field.name).update(told)
        else:
            setattr(message, field.name, told)
    return message


def delete_entry(project: str, kind: EntryKind[Any], name: str, request_id: str) -> Call[None]:
    """Return the call that deletes an entry."""
    request = getattr(messages, f"Delete{kind.noun}Request")(
        name=full_name(project, kind.collection, name), request_id=request_id
    )
    return _write(f"Delete{kind.noun}", request)


def list_prices(project: str, token: str, which: Which = EVERY) -> Call[Page[rows.PriceRow]]:
    """Return the call for a page of prices by time."""
    request = messages.ListPricesRequest(**page_fields(project, token), **which.fields())
    return page_call("ListPrices", request, "prices", _price)


def set_price(
    project: str, pool: str, valid_from: datetime, dollars: float, request_id: str
) -> Call[None]:
    """Return the call that says what a pool costs from a moment on."""
    price = price_pb2.Price(pool=pool, price_per_accelerator_hour=dollars)
    price.valid_from.FromDatetime(valid_from)
    request = messages.SetPriceRequest(
        parent=f"projects/{project}", price=price, request_id=request_id
    )
    return _write("SetPrice", request)


def delete_price(project: str, pool: str, valid_from: datetime, request_id: str) -> Call[None]:
    """Return the call that forgets a pool's price from a moment on."""
    request = messages.DeletePriceRequest(
        parent=f"projects/{project}", pool=pool, request_id=request_id
    )
    request.valid_from.FromDatetime(valid_from)
    return _write("DeletePrice", request)


def list_cordons(project: str, token: str, which: Which = EVERY) -> Call[Page[rows.CordonRow]]:
    """Return the call for a page of cordons."""
    request = messages.ListCordonsRequest(**page_fields(project, token), **which.fields())
    return page_call("ListCordons", request, "cordons", _cordon)


def cordon(project: str, part: str, request_id: str, *, cordoned: bool) -> Call[bool]:
    """Return the call that cordons `planes/X`, `nodes/PLANE--NODE` or the like, or ends it."""
    verb = "Cordon" if cordoned else "Uncordon"
    request = getattr(messages, f"{verb}Request")(
        name=f"projects/{project}/{part}", request_id=request_id
    )
    return Call(
        method=verb,
        request=request,
        read=lambda message: bool(message.changed),
        seconds_max=WRITE_SECONDS_MAX,
    )


def _write(method: str, request: Any) -> Call[None]:
    return Call(method=method, request=request, read=lambda _: None, seconds_max=WRITE_SECONDS_MAX)


def _entry(kind: EntryKind[Value], message: Any) -> rows.EntryRow[Value]:
    told: dict[str, Any] = {}
    for field in fields(kind.value):
        value = getattr(message, field.name)
        if field.name == _STEPS:
            value = steps_from_proto(value)
        elif isinstance(value, Mapping):
            value = tuple(sorted(value.items()))
        told[field.name] = _time(value) if isinstance(value, Timestamp) else value
    told["name"] = str(message.name).split("/", 3)[3]
    registered = message.HasField("create_time")
    return rows.EntryRow(
        value=kind.value(**told),
        etag=message.etag,
        created_at=_time(message.create_time) if registered else None,
        updated_at=_time(message.update_time) if registered else None,
        planes=tuple(getattr(message, "planes", ())),
    )


def _price(message: price_pb2.Price) -> rows.PriceRow:
    return rows.PriceRow(
        pool=message.pool,
        valid_from=_time(message.valid_from),
        price_per_accelerator_hour=message.price_per_accelerator_hour,
    )


def _cordon(message: cordon_pb2.Cordon) -> rows.CordonRow:
    return rows.CordonRow(
        name=message.name.split("/", 2)[2],
        actor=message.actor,
        reason=message.reason,
        since=_time(message.since),
        draining=message.draining,
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
