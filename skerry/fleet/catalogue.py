"""What operators register beside pools and deployments, from accelerators to clouds and regions.

A catalogue entry is a name with a value; the store keeps all kinds alike.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.cordon import Part, Scope
from skerry.fleet.names import NAME_CHARACTERS_MAX, check_name
from skerry.fleet.pool import PRICE_MAX

DESCRIPTION_CHARACTERS_MAX = 1_000
URI_CHARACTERS_MAX = 2_048
MEMORY_BYTES_MAX = 2**50  # a pebibyte
CLIENT_REGIONS_MAX = 256  # told of one region: every region of every large cloud, twice
LATENCY_SECONDS_MAX = 10.0  # past it seconds were taken for milliseconds
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorKind:
    """A kind of accelerator that pools name; memory in bytes of one accelerator, 0: not told."""

    name: str
    vendor: str = ""
    memory_bytes: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "accelerator kind")
        _check_text(self.vendor, "vendor", 63)
        _check_text(self.description, "description", DESCRIPTION_CHARACTERS_MAX)
        _check_bytes(self.memory_bytes, "memory_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """A base model by its source; `sha256` of the weights in hex and their bytes where known."""

    name: str
    uri: str
    sha256: str = ""
    weight_bytes: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "base model")
        if len(self.uri) > URI_CHARACTERS_MAX or not _URI.fullmatch(self.uri):
            raise ValueError(
                f"uri {self.uri[:80]!r} must look like SCHEME://..., at most {URI_CHARACTERS_MAX}"
                " characters"
            )
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 {self.sha256[:80]!r} must be 64 digits of 0-9 and a-f")
        _check_bytes(self.weight_bytes, "weight_bytes")
        _check_text(self.description, "description", DESCRIPTION_CHARACTERS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A pool that is paid for a time whether it is used or not.

    While it holds the pool counts as `reserved`, at this price per accelerator-hour in USD.
    """

    name: str
    pool: str
    price_per_accelerator_hour: float
    start_time: datetime
    end_time: datetime
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "reservation")
        check_name(self.pool, "pool")
        price = self.price_per_accelerator_hour
        if not (math.isfinite(price) and 0.0 <= price <= PRICE_MAX):
            raise ValueError(
                f"price_per_accelerator_hour must be 0..{PRICE_MAX:g} dollars, not {price}"
            )
        if self.start_time.tzinfo is None or self.end_time.tzinfo is None:
            raise ValueError("start_time and end_time must say their time zone")
        if self.start_time >= self.end_time:
            raise ValueError(
                f"end_time {self.end_time.isoformat()} must be after start_time"
                f" {self.start_time.isoformat()}"
            )
        _check_text(self.description, "description", DESCRIPTION_CHARACTERS_MAX)

    def holds(self, now: datetime) -> bool:
        """Say whether the reservation holds at that moment; its end is no longer part of it."""
        return self.start_time <= now < self.end_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A cloud, or a site of one's own, that planes lie in."""

    name: str
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "cloud")
        _check_text(self.description, "description", DESCRIPTION_CHARACTERS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A region of a cloud, `CLOUD/REGION`, and how far users are from it.

    `client_latency_seconds` are (client region, seconds one way), by client region.
    """

    name: str
    description: str = ""
    client_latency_seconds: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        Part(scope=Scope.REGION, name=self.name)  # refuses what is not CLOUD/REGION
        _check_text(self.description, "description", DESCRIPTION_CHARACTERS_MAX)
        told = self.client_latency_seconds
        if len(told) > CLIENT_REGIONS_MAX:
            raise ValueError(
                f"client_latency_seconds has {len(told)} client regions; at most"
                f" {CLIENT_REGIONS_MAX} are kept"
            )
        clients = [client for client, _ in told]
        if clients != sorted(set(clients)):
            raise ValueError("client_latency_seconds must name each client region once, in order")
        for client, seconds in told:
            if not (0 < len(client) <= NAME_CHARACTERS_MAX and client.isprintable()):
                raise ValueError(
                    f"client_latency_seconds names {client[:80]!r}; a client region has"
                    f" 1-{NAME_CHARACTERS_MAX} printable characters"
                )
            if not (math.isfinite(seconds) and 0.0 <= seconds <= LATENCY_SECONDS_MAX):
                raise ValueError(
                    f"client_latency_seconds from {client!r} must be 0..{LATENCY_SECONDS_MAX:g}"
                    f" seconds, not {seconds}"
                )


def _check_text(text: str, what: str, characters_max: int) -> None:
    if len(text) > characters_max or not text.isprintable():
        raise ValueError(f"{what} must be printable text of at most {characters_max} characters")


def _check_bytes(count: int, what: str) -> None:
    if not 0 <= count <= MEMORY_BYTES_MAX:
        raise ValueError(f"{what} must be 0..{MEMORY_BYTES_MAX}, not {count}")
