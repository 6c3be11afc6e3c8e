"""Intents as messages and back: what is wrong with any of them, and what names they have.

`applying.py` calls it for what an operator says beside deployments.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from control_plane.api import catalogue, validation
from control_plane.api.catalogue import Collection
from control_plane.api.times import moment_of
from control_plane.store.intents import WantedIntent, repeated_intents
from control_plane.store.values import StoredEntry
from skerry.api.operator.v1 import intent_pb2, pool_pb2, price_pb2
from skerry.fleet.intent import (
    KINDS,
    CordonIntent,
    Intent,
    PoolIntent,
    PriceIntent,
    format_time,
    kind_of,
    name_of,
)
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.errors import FieldViolation, InvalidInput

# A year of daily prices, or everything of a fleet that people describe by hand. As many new ones
# take the store's only writer some seconds.
INTENTS_MAX = 1_000
_COLLECTIONS: Mapping[str, Collection[Any]] = {
    one.field: one
    for one in (
        *(catalogue.ACCELERATORS, catalogue.MODELS, catalogue.RESERVED),
        *(catalogue.SITES, catalogue.PLACES),
    )
}
# Of what is not stored: entries' messages tell when they were, and both sides of a diff the same.
_EPOCH = datetime.fromtimestamp(0, UTC)


def intents_of(
    messages: Sequence[intent_pb2.Intent],
) -> tuple[tuple[WantedIntent, ...], list[FieldViolation]]:
    """Return the intents that are asked for, and what is wrong with any, by its path."""
    if len(messages) > INTENTS_MAX:
        told = f"{len(messages)} intents; apply at most {INTENTS_MAX} at a time"
        raise InvalidInput(told, field="intents")
    found: list[tuple[int, WantedIntent]] = []
    faults: list[FieldViolation] = []
    for index, message in enumerate(messages):
        try:
            found.append((index, _wanted_of(message)))
        except InvalidInput as error:
            faults += [replace(v, path=f"intents[{index}]{v.path}") for v in error.violations]
    faults += repeated_intents([(index, one.intent) for index, one in found])
    return tuple(one for _, one in found), faults


def intent_to_proto(intent: Intent) -> Message:
    """Return the message of what an intent says: that of its kind, named."""
    match intent:
        case PoolIntent(terms=terms):
            message: Any = pool_pb2.Pool(name=resource_of(intent), terms=_terms(terms))
        case PriceIntent():
            message = price_pb2.Price(
                pool=intent.pool, price_per_accelerator_hour=intent.price_per_accelerator_hour
            )
            message.valid_from.FromDatetime(intent.valid_from)
        case CordonIntent():
            message = intent_pb2.CordonIntent(
                name=resource_of(intent), reason=intent.reason, draining=intent.draining
            )
        case _:
            stored = StoredEntry(value=intent, etag="", created_at=_EPOCH, updated_at=_EPOCH)
            message = _COLLECTIONS[kind_of(intent)].to_proto(stored)
    return message  # type: ignore[no-any-return]


def resource_of(intent: Intent) -> str:
    """Return the full name of what an intent is about; of a price that of its pool and its time."""
    match intent:
        case PoolIntent(pool=pool):
            return full_name(DEFAULT_PROJECT, "pools", pool)
        case PriceIntent(pool=pool, valid_from=valid_from):
            return f"{full_name(DEFAULT_PROJECT, 'pools', pool)}/prices/{format_time(valid_from)}"
        case CordonIntent(part=part):
            return f"projects/{DEFAULT_PROJECT}/{part.resource}"
        case _:
            collection = _COLLECTIONS[kind_of(intent)].kind.collection
            return full_name(DEFAULT_PROJECT, collection, name_of(intent))


def _wanted_of(message: intent_pb2.Intent) -> WantedIntent:
    """Return one intent; paths of faults begin with `.KIND`, or are empty."""
    kind = message.WhichOneof("kind")
    if kind is None:
        told = f"says nothing; set one of {', '.join(KINDS)}"
        raise InvalidInput(told, violations=(FieldViolation(path="", message=told),))
    part = getattr(message, kind)
    with _below(kind):
        if kind in _COLLECTIONS:
            collection = _COLLECTIONS[kind]
            intent = collection.value_of(collection.name_of(part.name), part)
        else:
            intent = _READ[kind](part)
        etag = validation.check_opaque(getattr(part, "etag", ""), "etag")
    return WantedIntent(intent=intent, etag=etag)


def _pool_of(message: pool_pb2.Pool) -> PoolIntent:
    name = validation.check_pool_name(message.name)
    if not message.HasField("terms"):
        raise InvalidInput("say the pool's terms", field="terms")
    return PoolIntent(pool=name, terms=validation.terms_of(message.terms))


def _price_of(message: price_pb2.Price) -> PriceIntent:
    field = "price_per_accelerator_hour"
    return PriceIntent(
        pool=validation.check_pool_id(message.pool, "pool"),
        valid_from=moment_of(message, "valid_from"),
        price_per_accelerator_hour=validation.check_price(getattr(message, field), field),
    )


def _cordon_of(message: intent_pb2.CordonIntent) -> CordonIntent:
    part = validation.check_part(message.name)
    try:
        return CordonIntent(part=part, reason=message.reason, draining=message.draining)
    except ValueError as error:
        raise InvalidInput(str(error), field="reason") from error


_READ: Mapping[str, Callable[[Any], Intent]] = {
    "pool": _pool_of,
    "price": _price_of,
    "cordon": _cordon_of,
}


@contextmanager
def _below(kind: str) -> Iterator[None]:
    """Put the kind before the paths of faults that do not begin with it themselves."""
    try:
        yield
    except InvalidInput as error:
        violations = tuple(
            replace(v, path=f".{kind}.{v.path.removeprefix(f'{kind}.')}".removesuffix(f".{kind}"))
            for v in error.violations
        )
        raise InvalidInput(error.message, violations=violations) from None


def _terms(terms: PoolTerms) -> pool_pb2.PoolTerms:
    return pool_pb2.PoolTerms(
        capacity_class=terms.capacity_class.value,
        price_per_accelerator_hour=terms.price_per_accelerator_hour,
        cordoned=terms.cordoned,
    )
