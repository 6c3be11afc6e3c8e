"""Files of every kind but Deployment, read into the fleet's intents and written from them.

`skerry.client.manifest` reads through it, `manifest_rendering` writes through it. What equals a
schema's default is left out; reading the result gives the same intent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from skerry.client import manifest_intent_schema as schema
from skerry.client.manifest_schema import Part as FilePart
from skerry.client.quantities import format_bytes, format_duration
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.cordon import LOOKS, Part, Scope
from skerry.fleet.intent import (
    CordonIntent,
    Intent,
    PoolIntent,
    PriceIntent,
    format_time,
    kind_of,
    name_of,
)
from skerry.fleet.pool import PoolTerms
from skerry.plumbing import yaml_document

Values = dict[str, Any]
# What files call otherwise than the fleet's values do.
_FIELDS = {
    "memory_bytes": "memory",
    "weight_bytes": "weights",
    "client_latency_seconds": "clientLatency",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A kind of file: its schema, what it says, and how that is written."""

    file: type[FilePart]
    value: type[Intent]
    read: Callable[[Any], Intent]
    render: Callable[[Any], tuple[str, Values]]


def read_intent(kind: FileKind, parsed: FilePart, document: yaml_document.Document) -> Intent:
    """Return what a document says; InvalidInput with the place of what the value refuses."""
    try:
        return kind.read(parsed)
    except ValueError as error:
        # Every refusal begins with the field, or with what the name is one of.
        first = str(error).partition(" ")[0]
        field = _FIELDS.get(first, to_camel(first))
        spec = type(parsed.spec).model_fields.values()  # type: ignore[attr-defined]
        known = field in {told.alias for told in spec}
        raise document.fault(
            ("spec", field) if known else ("metadata", "name"), str(error)
        ) from None


def render_intent(intent: Intent) -> Values:
    """Return an intent as the plain values of a file."""
    kind = next(name for name, one in FILE_KINDS.items() if one.value is type(intent))
    name, spec = FILE_KINDS[kind].render(intent)
    values: Values = {"apiVersion": "skerry/v1", "kind": kind, "metadata": {"name": name}}
    return {**values, "spec": spec} if spec else values


def noun_of(intent: Intent) -> str:
    """Return what the command line calls an intent's kind, e.g. `accelerator-kind`."""
    return kind_of(intent).replace("_", "-")


def label_of(intent: Intent) -> str:
    """Return what people call an intent: its name, of a price its pool and from when it is."""
    match intent:
        case PriceIntent(pool=pool, valid_from=valid_from):
            return f"{pool} from {format_time(valid_from)}"
        case CordonIntent(part=part):
            return part_name(part)
        case _:
            return name_of(intent)


def part_name(part: Part) -> str:
    """Return a part of the fleet as files and `skerry cordon` name it, e.g. `plane/onprem-fra`."""
    return f"{part.scope.value}/{part.name}"


def _read_pool(file: schema.PoolFile) -> PoolIntent:
    spec = file.spec
    terms = PoolTerms(
        capacity_class=spec.class_,
        price_per_accelerator_hour=spec.price_per_accelerator_hour,
        cordoned=spec.cordoned,
    )
    return PoolIntent(pool=file.metadata.name, terms=terms)


def _render_pool(intent: PoolIntent) -> tuple[str, Values]:
    terms = intent.terms
    spec: Values = {"class": terms.capacity_class.value}
    if terms.price_per_accelerator_hour is not None:
        spec["pricePerAcceleratorHour"] = terms.price_per_accelerator_hour
    if terms.cordoned:
        spec["cordoned"] = True
    return intent.pool, spec


def _read_accelerator(file: schema.AcceleratorKindFile) -> AcceleratorKind:
    spec = file.spec
    return AcceleratorKind(
        name=file.metadata.name,
        vendor=spec.vendor,
        memory_bytes=spec.memory,
        description=spec.description,
    )


def _render_accelerator(kind: AcceleratorKind) -> tuple[str, Values]:
    memory = format_bytes(kind.memory_bytes) if kind.memory_bytes else ""
    told = {"vendor": kind.vendor, "memory": memory, "description": kind.description}
    return kind.name, _told(told)


def _read_model(file: schema.BaseModelFile) -> RegisteredModel:
    spec = file.spec
    return RegisteredModel(
        name=file.metadata.name,
        uri=spec.uri,
        sha256=spec.sha256,
        weight_bytes=spec.weights,
        description=spec.description,
    )


def _render_model(model: RegisteredModel) -> tuple[str, Values]:
    weights = format_bytes(model.weight_bytes) if model.weight_bytes else ""
    told = {"sha256": model.sha256, "weights": weights, "description": model.description}
    return model.name, {"uri": model.uri, **_told(told)}


def _read_reservation(file: schema.ReservationFile) -> Reservation:
    spec = file.spec
    return Reservation(
        name=file.metadata.name,
        pool=spec.pool,
        price_per_accelerator_hour=spec.price_per_accelerator_hour,
        start_time=spec.start_time,
        end_time=spec.end_time,
        description=spec.description,
    )


def _render_reservation(reservation: Reservation) -> tuple[str, Values]:
    spec: Values = {
        "pool": reservation.pool,
        "pricePerAcceleratorHour": reservation.price_per_accelerator_hour,
        "startTime": format_time(reservation.start_time),
        "endTime": format_time(reservation.end_time),
    }
    return reservation.name, {**spec, **_told({"description": reservation.description})}


def _read_price(file: schema.PriceFile) -> PriceIntent:
    return PriceIntent(
        pool=file.metadata.name,
        valid_from=file.spec.valid_from,
        price_per_accelerator_hour=file.spec.price_per_accelerator_hour,
    )


def _render_price(price: PriceIntent) -> tuple[str, Values]:
    spec: Values = {
        "validFrom": format_time(price.valid_from),
        "pricePerAcceleratorHour": price.price_per_accelerator_hour,
    }
    return price.pool, spec


def _read_cloud(file: schema.CloudFile) -> Cloud:
    return Cloud(name=file.metadata.name, description=file.spec.description)


def _render_cloud(cloud: Cloud) -> tuple[str, Values]:
    return cloud.name, _told({"description": cloud.description})


def _read_region(file: schema.RegionFile) -> Region:
    return Region(
        name=file.metadata.name,
        description=file.spec.description,
        client_latency_seconds=tuple(sorted(file.spec.client_latency.items())),
    )


def _render_region(region: Region) -> tuple[str, Values]:
    spec = _told({"description": region.description})
    if region.client_latency_seconds:
        spec["clientLatency"] = {
            client: format_duration(seconds) for client, seconds in region.client_latency_seconds
        }
    return region.name, spec


def _read_cordon(file: schema.CordonFile) -> CordonIntent:
    scope, _, name = file.metadata.name.partition("/")
    if scope not in list(Scope):
        looks = ", ".join(f"{one.value}/{look}" for one, look in LOOKS.items())
        raise ValueError(f"{file.metadata.name!r} must look like one of {looks}")
    return CordonIntent(
        part=Part(scope=Scope(scope), name=name),
        reason=file.spec.reason,
        draining=file.spec.draining,
    )


def _render_cordon(cordon: CordonIntent) -> tuple[str, Values]:
    spec: Values = {"draining": True} if cordon.draining else {}
    return part_name(cordon.part), {**spec, **_told({"reason": cordon.reason})}


def _told(values: Mapping[str, str]) -> Values:
    return {name: text for name, text in values.items() if text}


# In the order of an export: what others name comes first.
FILE_KINDS: Mapping[str, FileKind] = {
    "Cloud": FileKind(file=schema.CloudFile, value=Cloud, read=_read_cloud, render=_render_cloud),
    "Region": FileKind(
        file=schema.RegionFile, value=Region, read=_read_region, render=_render_region
    ),
    "AcceleratorKind": FileKind(
        file=schema.AcceleratorKindFile,
        value=AcceleratorKind,
        read=_read_accelerator,
        render=_render_accelerator,
    ),
    "BaseModel": FileKind(
        file=schema.BaseModelFile, value=RegisteredModel, read=_read_model, render=_render_model
    ),
    "Pool": FileKind(file=schema.PoolFile, value=PoolIntent, read=_read_pool, render=_render_pool),
    "Price": FileKind(
        file=schema.PriceFile, value=PriceIntent, read=_read_price, render=_render_price
    ),
    "Reservation": FileKind(
        file=schema.ReservationFile,
        value=Reservation,
        read=_read_reservation,
        render=_render_reservation,
    ),
    "Cordon": FileKind(
        file=schema.CordonFile, value=CordonIntent, read=_read_cordon, render=_render_cordon
    ),
}
