"""What is said on a link, with the product's values instead of protobuf: decoding costs too much.

Desired states travel as the bytes they are on the wire and on disk.
"""

from dataclasses import dataclass

from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A plane's first word."""

    report: PlaneReport
    agent_id: str
    stream_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """A control plane's answer to it."""

    epoch: int
    period_ms: int
    timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Either way; the answer carries the number of what it answers, and if targets are current."""

    number: int
    targets_current: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A plane's report."""

    report: PlaneReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """What a plane counted."""

    report: LoadReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """A push."""

    version: Version
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """What was pushed is durable."""

    version: Version
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TellHeld:
    """A control plane that knows less asks for all that a plane holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The answer, as it is on the plane's disk."""

    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Nack:
    """What was pushed is refused; the old goes on."""

    version: Version
    reason: str
