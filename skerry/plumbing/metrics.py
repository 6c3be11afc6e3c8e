"""Every instrument of a process, declared once with unit, help and labels.

Modules declare theirs at import; whoever serves `/metrics` calls `render`; a docs test walks
`declared`. State is the process's on purpose: two instruments of one name would be a lie.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

# Each label multiplies the series; past four nobody can draw the result.
LABELS_MAX = 4
# What has no bound on its values fills the memory of whoever scrapes.
UNBOUNDED_LABELS = frozenset(
    {"request", "request_id", "user", "user_id", "tenant_id", "id", "pid", "url", "path"}
    | {"prompt", "message", "error", "time", "address", "session", "session_id"}
)
# Half a millisecond to two minutes: from a loopback round trip to the slow start of a program.
# fmt: off
SECONDS_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)
# fmt: on

_NAME = re.compile(r"skerry(_[a-z][a-z0-9]*)+")
_LABEL = re.compile(r"[a-z][a-z_]*")

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
_registry = CollectorRegistry()
_declared: list["Declaration"] = []
ProcessCollector(registry=_registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What the documentation says about an instrument."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...]


def counter(name: str, *, unit: str, help: str, labels: Sequence[str] = ()) -> Counter:
    """Declare what only grows; its name ends in `_<unit>_total`."""
    _declare(name, "counter", unit, help, labels)
    return Counter(name, help, tuple(labels), registry=_registry)


def gauge(name: str, *, unit: str, help: str, labels: Sequence[str] = ()) -> Gauge:
    """Declare what goes up and down; its name ends in `_<unit>`."""
    _declare(name, "gauge", unit, help, labels)
    return Gauge(name, help, tuple(labels), registry=_registry)


def histogram(
    name: str,
    *,
    unit: str,
    help: str,
    labels: Sequence[str] = (),
    buckets: Sequence[float] = SECONDS_BUCKETS,
) -> Histogram:
    """Declare a distribution; its name ends in `_<unit>`, the buckets are in that unit."""
    _declare(name, "histogram", unit, help, labels)
    return Histogram(name, help, tuple(labels), registry=_registry, buckets=tuple(buckets))


def render() -> bytes:
    """Return all instruments in the Prometheus text format, see `CONTENT_TYPE`."""
    return prometheus_client.generate_latest(_registry)


def declared() -> tuple[Declaration, ...]:
    """Return every declaration of the modules imported so far, by name."""
    return tuple(sorted(_declared, key=lambda declaration: declaration.name))


def _declare(
    name: str,
    kind: Literal["counter", "gauge", "histogram"],
    unit: str,
    help: str,
    labels: Sequence[str],
) -> None:
    ending = f"_{unit}_total" if kind == "counter" else f"_{unit}"
    unbounded = UNBOUNDED_LABELS.intersection(labels)
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: instruments are named skerry_<noun>_<unit>")
    if not unit or not name.endswith(ending):
        raise ValueError(f"{name!r}: a {kind} in {unit!r} ends in {ending!r}")
    if not help.strip():
        raise ValueError(f"{name!r}: say in `help` what a reader of a graph must know")
    if len(labels) > LABELS_MAX or unbounded:
        raise ValueError(f"{name!r}: at most {LABELS_MAX} labels, none of {sorted(unbounded)}")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{name!r}: labels are lowercase words, not {list(labels)}")
    if any(known.name == name for known in _declared):
        raise ValueError(f"{name!r} is declared twice; import it from where it was first")
    _declared.append(Declaration(name=name, kind=kind, unit=unit, help=help, labels=tuple(labels)))
