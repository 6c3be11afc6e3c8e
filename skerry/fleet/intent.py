"""What operators say beside deployments, each a thing with a name that a file can hold.

Files, the operator API and the store speak of the same values.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from skerry.fleet.catalogue import (
    DESCRIPTION_CHARACTERS_MAX,
    AcceleratorKind,
    Cloud,
    Region,
    RegisteredModel,
    Reservation,
)
from skerry.fleet.cordon import CordonState, Part
from skerry.fleet.names import SEPARATOR, InvalidName, check_name
from skerry.fleet.pool import PRICE_MAX, PoolTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolIntent:
    """The operator's terms of a pool, `PLANE--POOL`, whether its plane has reported it or not."""

    pool: str
    terms: PoolTerms

    def __post_init__(self) -> None:
        check_pool(self.pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceIntent:
    """What an accelerator-hour of a pool costs from a moment on, in USD."""

    pool: str
    valid_from: datetime
    price_per_accelerator_hour: float

    def __post_init__(self) -> None:
        check_pool(self.pool)
        if self.valid_from.tzinfo is None:
            raise ValueError("valid_from must say its time zone")
        price = self.price_per_accelerator_hour
        if not (math.isfinite(price) and 0.0 <= price <= PRICE_MAX):
            raise ValueError(
                f"price_per_accelerator_hour must be 0..{PRICE_MAX:g} dollars, not {price}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CordonIntent:
    """A part of the fleet that is to take nothing new; drained, what runs there goes elsewhere.

    The reason is kept with a cordon that begins or changes its state.
    """

    part: Part
    reason: str = ""
    draining: bool = False

    def __post_init__(self) -> None:
        if len(self.reason) > DESCRIPTION_CHARACTERS_MAX or not self.reason.isprintable():
            raise ValueError(
                f"reason must be printable text of at most {DESCRIPTION_CHARACTERS_MAX} characters"
            )

    @property
    def state(self) -> CordonState:
        """Return the state that the part is to have."""
        return CordonState.DRAINING if self.draining else CordonState.CORDONED


Entry = AcceleratorKind | RegisteredModel | Reservation | Cloud | Region
Intent = PoolIntent | PriceIntent | CordonIntent | Entry


# As the API's Intent calls them, in the order they are applied in: what others name comes first.
KINDS: Mapping[str, type[Intent]] = {
    "cloud": Cloud,
    "region": Region,
    "accelerator_kind": AcceleratorKind,
    "base_model": RegisteredModel,
    "pool": PoolIntent,
    "price": PriceIntent,
    "reservation": Reservation,
    "cordon": CordonIntent,
}
_KEYS = {kind: key for key, kind in KINDS.items()}
_ORDER = {key: number for number, key in enumerate(KINDS)}


def kind_of(intent: Intent) -> str:
    """Return which of KINDS an intent is."""
    return _KEYS[type(intent)]


def subject_of(intent: Intent) -> tuple[int, str]:
    """Return what an intent is about: no two of one transaction may be about the same.

    The first part orders intents as they are applied.
    """
    return _ORDER[kind_of(intent)], name_of(intent)


def name_of(intent: Intent) -> str:
    """Return an intent's short name; of a price `POOL/TIME`, of a cordon e.g. `planes/NAME`."""
    match intent:
        case PoolIntent(pool=pool):
            return pool
        case PriceIntent(pool=pool, valid_from=valid_from):
            return f"{pool}/{format_time(valid_from)}"
        case CordonIntent(part=part):
            return part.resource
        case _:
            return intent.name


def check_pool(pool: str) -> str:
    """Return a pool's fleet-wide id when it looks like PLANE--POOL; InvalidName otherwise."""
    plane, _, own = check_name(pool, "pool").rpartition(SEPARATOR)
    if not plane or not own:
        raise InvalidName(f"pool {pool!r} must look like PLANE--POOL")
    return pool


def format_time(moment: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC: `2026-12-01T00:00:00Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
