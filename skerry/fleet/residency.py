"""What a plane's gateway says of where requests went, as chained records: the proof's evidence.

Pure. `workload_plane.residency` makes them of the gateway's log, the control plane keeps what it is
told, `residency_proof` judges. They are chained as the change log is: see `change_chain`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from skerry.fleet.change_chain import Link, Verified, content_of, digest_of, verify_links

FORMAT = 1
ROWS_MAX = 500  # of a record: 60 kB; a minute of more is told by several
CONTENT_CHARACTERS_MAX = 256 * 1024
WHY_CHARACTERS_MAX = 400
NAME_CHARACTERS_MAX = 255
ZONES_MAX = 64
CHAIN_CHARACTERS_MAX = 64
# Of moments in milliseconds: the year 2286, and a signed 64-bit column.
_MS_MAX = 10**13
_COUNT_MAX = 2**53
MINUTE_MS = 60_000


class Way(StrEnum):
    """What became of requests of one row."""

    HERE = "here"  # sent to a replica of the plane that says so
    SENT = "sent"  # forwarded to another plane's gateway
    TAKEN = "taken"  # forwarded by another plane's gateway to this one


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Row:
    """So many requests of a deployment that were sent within a minute, of one way.

    `minute` counts from 1970. `plane` is the other plane, "" for HERE. `zones` are those that the
    plane which got the requests was known to lie in, None for a plane that was not known. `allowed`
    are the zones of the policy that the gateway's plane held, of the desired state `generation`;
    None where that knew no policy, or no such deployment.
    """

    minute: int
    deployment: str
    way: Way
    plane: str
    zones: tuple[str, ...] | None
    allowed: tuple[str, ...] | None
    generation: str
    count: int

    def __post_init__(self) -> None:
        names = (self.deployment, self.plane, self.generation)
        if any(len(name) > NAME_CHARACTERS_MAX for name in names) or not self.deployment:
            raise ValueError(f"a row of {self.deployment[:40]!r} has a name that none can be")
        if not 0 <= self.minute <= _MS_MAX // MINUTE_MS or not 0 < self.count <= _COUNT_MAX:
            raise ValueError(f"minute {self.minute} or count {self.count} is out of range")
        if (self.plane == "") != (self.way is Way.HERE):
            raise ValueError(f"{self.way} of plane {self.plane!r} makes no sense")

    @property
    def is_inside(self) -> bool:
        """Say whether the policy allowed it; fails closed for a plane that is not known."""
        if self.allowed is None:
            return True
        return self.zones is not None and not set(self.allowed).isdisjoint(self.zones)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the gateway was at a record's end: by it the next record knows what came between.

    Its process began at `run_ms`; of what it wrote to files `failed` writes failed; `segment` is
    the number of the last piece of its log that was read, `inode` the file that it writes now.
    """

    run_ms: int = 0
    failed: int = 0
    segment: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that went through a plane's gateway from one moment to another, in ms since 1970.

    `why` says why that is not proven; empty when it is. Rows may lie a little outside of the time.
    """

    sequence: int
    chain: str
    from_ms: int
    to_ms: int
    why: str = ""
    seen: Seen = Seen()
    rows: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.sequence < _COUNT_MAX or not 0 < len(self.chain) <= CHAIN_CHARACTERS_MAX:
            raise ValueError(f"record {self.sequence} of {self.chain[:40]!r} cannot be")
        if not 0 <= self.from_ms <= self.to_ms <= _MS_MAX:
            raise ValueError(f"record {self.sequence} ends before it begins")
        if len(self.rows) > ROWS_MAX or len(self.why) > WHY_CHARACTERS_MAX:
            raise ValueError(f"record {self.sequence} is too long")


def link_of(record: Record, previous: bytes | None) -> Link:
    """Return the record as it is chained to the digest before."""
    seen = record.seen
    content = content_of(
        [
            record.sequence,
            FORMAT,
            record.chain,
            record.from_ms,
            record.to_ms,
            record.why,
            [seen.run_ms, seen.failed, seen.segment, seen.inode],
            [_row_values(row) for row in record.rows],
        ]
    )
    return Link(
        sequence=record.sequence,
        content=content,
        previous=previous,
        digest=digest_of(content, previous),
    )


def record_of(link: Link) -> Record:
    """Return what a link says; ValueError for what is no record of this format."""
    if len(link.content) > CONTENT_CHARACTERS_MAX:
        raise ValueError(f"record {link.sequence} is too long")
    try:
        sequence, format_, chain, from_ms, to_ms, why, seen, rows = json.loads(link.content)
        if format_ != FORMAT or sequence != link.sequence:
            raise ValueError(f"record {link.sequence} is of format {format_!r}, not {FORMAT}")
        run_ms, failed, segment, inode = map(int, seen)
        return Record(
            sequence=sequence,
            chain=str(chain),
            from_ms=int(from_ms),
            to_ms=int(to_ms),
            why=str(why),
            seen=Seen(run_ms=run_ms, failed=failed, segment=segment, inode=inode),
            rows=tuple(_row(values) for values in rows),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"record {link.sequence} cannot be read: {error}") from None


def follow(links: Iterable[Link], before: Verified) -> Verified:
    """Return how far these records continue what was verified before; says "record" for change."""
    found = verify_links(links, before)
    if not found.fault:
        return found
    return Verified(
        sequence=found.sequence,
        digest=found.digest,
        checked=found.checked,
        fault=found.fault.replace("change ", "record "),
    )


def _row_values(row: Row) -> Sequence[Any]:
    return [
        row.minute,
        row.deployment,
        row.way.value,
        row.plane,
        row.zones,
        row.allowed,
        row.generation,
        row.count,
    ]


def _row(values: Sequence[Any]) -> Row:
    minute, deployment, way, plane, zones, allowed, generation, count = values
    return Row(
        minute=int(minute),
        deployment=str(deployment),
        way=Way(way),
        plane=str(plane),
        zones=_zones(zones),
        allowed=_zones(allowed),
        generation=str(generation),
        count=int(count),
    )


def _zones(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or len(values) > ZONES_MAX:
        raise ValueError("zones must be a short list")
    return tuple(str(zone)[:NAME_CHARACTERS_MAX] for zone in values)
