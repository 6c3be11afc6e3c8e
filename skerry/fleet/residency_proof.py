"""Did a deployment's requests leave its zones? Judged from what gateways recorded. PURE.

`control_plane.api.residency` asks. A time counts as proven only where records of every plane cover
it and nothing speaks against them: what nobody recorded is "unproved", never "none left". Moments
are in ms since 1970; requests are counted by minutes: those at either end of a time count whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from skerry.fleet.residency import MINUTE_MS, Record, Row, Way

# Both sides log a request as it is sent; so far apart may their minutes be, by their clocks too.
SKEW_MINUTES = 1
# In one answer, the first: of each deployment, and of planes' gaps. The counts tell of all.
SHOWN_MAX, GAPS_SHOWN_MAX = 200, 1_000
# No record of the plane covers the time, and none says why.
NOTHING_TOLD = "its gateway told nothing of that time"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneEvidence:
    """What is known of one plane: since when it is there (ms), what it told, and what is wrong.

    `fault` speaks against all that it told.
    """

    plane: str
    since_ms: int = 0
    records: tuple[Record, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Requests that were served or forwarded outside of the zones: by which gateway, to where."""

    minute: int
    gateway: str
    plane: str
    zones: tuple[str, ...] | None
    allowed: tuple[str, ...]
    generation: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved:
    """A time of which nothing is proven for one plane, and why."""

    plane: str
    from_ms: int
    to_ms: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentProof:
    """The judgement of one deployment.

    `inside` and `outside` count requests, one that was tried at two hosts twice; `without_policy`
    those of gateways whose plane held no policy for it then. `unproved` are contradictions between
    gateways; what no gateway recorded is the whole proof's.
    """

    deployment: str
    allowed: tuple[str, ...]
    inside: int = 0
    outside: int = 0
    without_policy: int = 0
    left: tuple[Outside, ...] = ()
    unproved: tuple[Unproved, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The judgement of deployments, by name, from one moment to another.

    `gaps` are the first of `gap_count` times of which a plane proves nothing.
    """

    since_ms: int
    until_ms: int
    deployments: tuple[DeploymentProof, ...]
    gaps: tuple[Unproved, ...]
    gap_count: int

    def is_proven(self, one: DeploymentProof) -> bool:
        """Say whether it is proven that none of a deployment's requests left."""
        return not one.outside and not one.unproved and not self.gap_count


def prove(
    policies: Mapping[str, tuple[str, ...]],
    planes: Sequence[PlaneEvidence],
    since_ms: int,
    until_ms: int,
) -> Proof:
    """Return the judgement of each deployment of `policies` (its zones now).

    From one moment to another that is later. The records of SKEW_MINUTES before and after are to be
    there too, of which nothing else is judged.
    """
    assert since_ms < until_ms, "the caller refuses an empty time"
    span = range(since_ms // MINUTE_MS, -(-until_ms // MINUTE_MS))
    gaps = tuple(gap for plane in planes for gap in _gaps(plane, since_ms, until_ms))
    rows = {plane.plane: _rows(plane.records) for plane in planes}
    judged = (
        _judge(name, policies[name], {plane: of.get(name, ()) for plane, of in rows.items()}, span)
        for name in sorted(policies)
    )
    return Proof(
        since_ms=since_ms,
        until_ms=until_ms,
        deployments=tuple(judged),
        gaps=gaps[:GAPS_SHOWN_MAX],
        gap_count=len(gaps),
    )


def merged(first: Proof, second: Proof) -> Proof:
    """Return the judgement of two times as one, the second from where the first ends: a minute."""
    assert first.until_ms == second.since_ms, "one follows the other"
    ours = {one.deployment: one for one in first.deployments}
    theirs = {one.deployment: one for one in second.deployments}
    both = [
        _added(ours.get(name), theirs.get(name)) for name in sorted(ours.keys() | theirs.keys())
    ]
    return Proof(
        since_ms=first.since_ms,
        until_ms=second.until_ms,
        deployments=tuple(one for one in both if one is not None),
        gaps=(*first.gaps, *second.gaps)[:GAPS_SHOWN_MAX],
        gap_count=first.gap_count + second.gap_count,
    )


def _added(one: DeploymentProof | None, other: DeploymentProof | None) -> DeploymentProof | None:
    if one is None or other is None:
        return one or other
    return replace(
        other,
        allowed=other.allowed or one.allowed,
        inside=one.inside + other.inside,
        outside=one.outside + other.outside,
        without_policy=one.without_policy + other.without_policy,
        left=(*one.left, *other.left)[:SHOWN_MAX],
        unproved=(*one.unproved, *other.unproved)[:SHOWN_MAX],
    )


@dataclass(slots=True)
class _Counts:
    inside: int = 0
    outside: int = 0
    without: int = 0
    left: list[Outside] = field(default_factory=list)


def _judge(
    name: str, allowed: tuple[str, ...], rows: Mapping[str, Sequence[Row]], span: range
) -> DeploymentProof:
    counts = _Counts()
    for plane, found in rows.items():
        for row in found:
            if row.minute in span:
                _count(counts, plane, row)
    left = sorted(counts.left, key=lambda one: (one.minute, one.gateway, one.plane))
    return DeploymentProof(
        deployment=name,
        allowed=allowed,
        inside=counts.inside,
        outside=counts.outside,
        without_policy=counts.without,
        left=tuple(left[:SHOWN_MAX]),
        unproved=tuple(_contradictions(rows, span)[:SHOWN_MAX]),
    )


def _count(counts: _Counts, gateway: str, row: Row) -> None:
    """Count a row once: what was taken was sent by another, unless only the taker sees a leak."""
    is_taken = row.way is Way.TAKEN
    if row.allowed is None:
        counts.without += 0 if is_taken else row.count
    elif not row.is_inside:
        counts.outside += row.count
        counts.left.append(
            Outside(
                minute=row.minute,
                gateway=row.plane if is_taken else gateway,
                plane=row.plane if row.way is Way.SENT else gateway,
                zones=row.zones,
                allowed=row.allowed,
                generation=row.generation,
                count=row.count,
            )
        )
    elif not is_taken:
        counts.inside += row.count


def _rows(records: Iterable[Record]) -> Mapping[str, Sequence[Row]]:
    found: dict[str, list[Row]] = {}
    for record in records:
        for row in record.rows:
            found.setdefault(row.deployment, []).append(row)
    return found


def _gaps(plane: PlaneEvidence, since_ms: int, until_ms: int) -> list[Unproved]:
    """Return the times of a plane that no record proves, in order; neighbours as one."""
    reached = since_ms = max(since_ms, plane.since_ms)
    if plane.fault and since_ms < until_ms:
        return [Unproved(plane=plane.plane, from_ms=since_ms, to_ms=until_ms, why=plane.fault)]
    found: list[Unproved] = []

    def add(from_ms: int, to_ms: int, why: str) -> None:
        from_ms, to_ms = max(from_ms, since_ms), min(to_ms, until_ms)
        if from_ms >= to_ms:
            return
        if found and found[-1].why == why and found[-1].to_ms >= from_ms:
            found[-1] = replace(found[-1], to_ms=max(to_ms, found[-1].to_ms))
        else:
            found.append(Unproved(plane=plane.plane, from_ms=from_ms, to_ms=to_ms, why=why))

    for record in sorted(plane.records, key=lambda one: (one.from_ms, one.to_ms)):
        add(reached, record.from_ms, NOTHING_TOLD)
        if record.why:
            add(record.from_ms, record.to_ms, record.why)
        reached = max(reached, record.to_ms)
    add(reached, until_ms, NOTHING_TOLD)
    return found


def _contradictions(rows: Mapping[str, Sequence[Row]], span: range) -> list[Unproved]:
    """Return where a plane took more from another than that one says that it sent."""
    sent, taken = _by_pair(rows, Way.SENT), _by_pair(rows, Way.TAKEN)
    found = []
    for (taker, sender), minutes in sorted(taken.items()):
        told = sent.get((sender, taker), {})
        for minute in sorted(set(minutes) & set(span)):
            near = range(minute - SKEW_MINUTES, minute + SKEW_MINUTES + 1)
            said = sum(told.get(one, 0) for one in near)
            if minutes[minute] > said:
                why = (
                    f"{taker} took {minutes[minute]} requests from it, it says that it sent {said}"
                )
                begins = minute * MINUTE_MS
                gap = Unproved(plane=sender, from_ms=begins, to_ms=begins + MINUTE_MS, why=why)
                found.append(gap)
    return found


def _by_pair(rows: Mapping[str, Sequence[Row]], way: Way) -> dict[tuple[str, str], dict[int, int]]:
    """Return the counts by (who says so, the other plane) and minute."""
    found: dict[tuple[str, str], dict[int, int]] = {}
    for plane, own in rows.items():
        for row in own:
            if row.way is way:
                minutes = found.setdefault((plane, row.plane), {})
                minutes[row.minute] = minutes.get(row.minute, 0) + row.count
    return found
