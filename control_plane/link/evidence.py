"""What planes tell of where their requests went, until it is stored: bounded, one report of each.

`service.py` fills it, `control_plane.evidence` stores what is in it and answers.
"""

from collections.abc import Iterable

from control_plane.store.residency import CHAIN_MAX, Told
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.change_chain import Link
from skerry.fleet.residency import CONTENT_CHARACTERS_MAX

# What a plane tells at once, as it tells it: `workload_plane.residency.ledger`.
RECORDS_MAX = 64
# Of all planes together; what has no room is asked for again after half a minute.
INBOX_CHARACTERS_MAX = 32 * 1024 * 1024


class EvidenceInbox:
    """The reports that are not stored yet, by plane; a plane waits for the answer to its last."""

    def __init__(self) -> None:
        """Begin with none."""
        self._told: dict[str, Told] = {}
        self._characters = 0

    def put(self, plane: str, report: messages.ResidencyReport) -> None:
        """Keep a plane's report in place of the one before; ValueError for what none tells."""
        if not 0 < len(report.chain) <= CHAIN_MAX or len(report.records) > RECORDS_MAX:
            raise ValueError("a report of where requests went names no chain, or too many records")
        told = Told(plane=plane, chain=report.chain, links=tuple(map(_link, report.records)))
        self._forget(plane)
        size = _size(told.links)
        if self._characters + size <= INBOX_CHARACTERS_MAX:
            self._told[plane] = told
            self._characters += size

    def take(self, most: int) -> tuple[Told, ...]:
        """Return some reports, those that wait longest; they are here no more."""
        found = tuple(self._told.values())[:most]
        for told in found:
            self._forget(told.plane)
        return found

    def _forget(self, plane: str) -> None:
        told = self._told.pop(plane, None)
        if told is not None:
            self._characters -= _size(told.links)


def _size(links: Iterable[Link]) -> int:
    return sum(len(link.content) for link in links)


def _link(record: messages.ResidencyRecord) -> Link:
    if len(record.content) > CONTENT_CHARACTERS_MAX:
        raise ValueError(f"record {record.sequence} of where requests went is too long")
    return Link(
        sequence=record.sequence,
        content=record.content,
        previous=record.previous_digest or None,
        digest=record.digest or None,
    )
