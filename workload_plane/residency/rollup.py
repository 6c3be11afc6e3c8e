"""From the lines of the gateway's log to records of where requests went: PURE.

`keeper` calls it. What is not sure to be whole becomes a record with a reason: nothing here takes
an absence of lines for an absence of requests.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import Unknown
from skerry.fleet.residency import MINUTE_MS, ROWS_MAX, WHY_CHARACTERS_MAX, Record, Row, Seen, Way

# The gateway takes up a desired state within it: a request may go by the one before until then, or
# by the one after before we noted that.
TAKE_UP_MS = 5_000
TERMS_MAX = 64  # of desired states with other rules since the last record
# Envoy tells its age in whole seconds, and clocks are set a little now and then.
RUN_SLACK_MS = 2_000
# A gateway that was started together with the agent has had the log from its first request on.
STARTED_TOGETHER_MS = 60_000

_NAME = rb"[A-Za-z0-9._-]{1,253}"
_SENT = re.compile(
    rb"S\|(\d{1,10})\.(\d{3})\|(?:relayed-|local-)?(?:http|grpc)/(" + _NAME + rb")"
    rb"\|([^|\n]{1,255})\|(-|peer)"
)
_TAKEN = re.compile(rb"T\|(\d{1,10})\.(\d{3})\|(" + _NAME + rb")\|([^|\n]{1,1024})")
# No deployment's: to the front, which answers for the plane, and to the relay, which asks again.
_BESIDE = re.compile(rb"S\|[\d.]{1,14}\|(?:front|relay-http|relay-grpc|picker|-)\|[^|\n]*\|[^|\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the plane's desired state said of residency: its generation, zones and policies.

    `policies` are the allowed zones by deployment, of those that have a policy.
    """

    generation: str = ""
    own: tuple[str, ...] = ()
    peers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    policies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def has_rules_of(self, other: "Terms") -> bool:
        """Say whether both allow the same, whatever their generations."""
        return (self.own, self.peers, self.policies) == (other.own, other.peers, other.policies)


def terms_of(own: tuple[str, ...], desired: DesiredState | Unknown) -> Terms:
    """Return the terms of a desired state for a plane that lies in `own` zones."""
    if isinstance(desired, Unknown):
        return Terms(own=own)
    policies = {
        one.deployment.name: one.deployment.policy.residency_zones
        for one in desired.assignments
        if one.deployment.policy.residency_zones
    }
    return Terms(
        generation=str(desired.version),
        own=own,
        peers={peer.plane: peer.residency_zones for peer in desired.peers},
        policies=policies,
    )


# Terms with the moment, in ms, since which they were in force; the oldest first.
History = tuple[tuple[int, Terms], ...]


def noted(history: History, terms: Terms, now_ms: int) -> History:
    """Return the history with the terms of now; the same while nothing changed."""
    if history and history[-1][1] == terms:
        return history
    return (*history, (now_ms, terms))[-TERMS_MAX:]


def forgotten(history: History, before_ms: int) -> History:
    """Return the history without what no request since `before_ms` can have gone by."""
    last = max((i for i, (at, _) in enumerate(history) if at <= before_ms - TAKE_UP_MS), default=0)
    return history[last:]


def roll_up(data: Iterable[bytes], history: History) -> tuple[Counter[Row], int]:
    """Return the requests by what they have in common, each counted 1 a line; and odd lines.

    The rows' own counts are 1; the history has an entry.
    """
    lines: Counter[tuple[int, int, bytes, bytes, bytes]] = Counter()
    odd = 0
    for line in data:
        if found := _SENT.fullmatch(line):
            seconds, ms, deployment, host, hop = found.groups()
        elif found := _TAKEN.fullmatch(line):
            seconds, ms, deployment, host = found.groups()
            hop = b"taken"
        else:
            odd += 0 if _BESIDE.fullmatch(line) else 1
            continue
        at_ms = int(seconds) * 1000 + int(ms)
        lines[at_ms // MINUTE_MS, _place(history, at_ms), deployment, host, hop] += 1
    rows: Counter[Row] = Counter()
    for (minute, place, deployment, host, hop), count in lines.items():
        row = _row(minute, history, place, deployment.decode(), _host(host), hop)
        if row.way is not Way.HERE or row.allowed is not None:
            rows[row] += count
    return rows, odd


def _place(history: History, at_ms: int) -> int:
    """Return which terms were in force; -1-i where the next ones, i, followed within TAKE_UP_MS."""
    place = 0
    for i, (since, _) in enumerate(history[1:], start=1):
        if since <= at_ms:
            place = i
        elif since - at_ms <= TAKE_UP_MS:
            return -1 - i
    return place


def _row(minute: int, history: History, place: int, deployment: str, host: str, hop: bytes) -> Row:
    if place < 0:  # by the terms of before, or already by those of after
        after = -1 - place
        before = _row(minute, history, after - 1, deployment, host, hop)
        return before if before.is_inside else _row(minute, history, after, deployment, host, hop)
    terms = history[place][1]
    way = {b"-": Way.HERE, b"peer": Way.SENT}.get(hop, Way.TAKEN)
    other = host if way is not Way.HERE else ""
    if way is Way.TAKEN:
        names = host.split(",")
        other = next((name for name in names if name in terms.peers), names[0])
    return Row(
        minute=minute,
        deployment=deployment,
        way=way,
        plane=other,
        zones=terms.peers.get(other) if way is Way.SENT else terms.own,
        allowed=terms.policies.get(deployment),
        generation=terms.generation,
        count=1,
    )


def _host(host: bytes) -> str:
    return host.decode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The gateway at one moment, and what became of its log since the last record.

    All that it logged before `at_ms` was read, unless `why` says what is missing. Its process began
    at `run_ms`; `failed` writes failed. `has_log`: all its listeners log. `is_draining`: it may
    still serve connections by an older configuration.
    """

    at_ms: int
    run_ms: int
    failed: int
    has_log: bool
    is_draining: bool
    segment: int
    inode: int
    why: str = ""


NO_LOG = "the gateway did not log where requests went"
DRAINING = "connections from before the gateway had its log may have been served without"
FIRST_LOOK = "nobody had looked at the gateway's log before"
STARTED_AGAIN = "the gateway ended and was started again: what it had not written yet is lost"
NOT_WRITTEN = "the gateway could not write its log: is the disk full?"


def next_records(
    last: Record, began_ms: int, look: Look, rows: Mapping[Row, int]
) -> tuple[Record, ...]:
    """Return what follows the last record of a ledger that began at `began_ms`; at least one.

    What is not proven is a record of its own with the reason.
    """
    seen = Seen(run_ms=look.run_ms, failed=look.failed, segment=look.segment, inode=look.inode)
    end, to = last.to_ms, max(last.to_ms, look.at_ms)
    split, why = _fault(last, began_ms, look)
    split = to if split is None else min(max(split, end), to)
    spans = [(split, why)] if why else []
    if not why or split < to:
        spans.append((to, ""))
    counted = [replace(row, count=rows[row]) for row in sorted(rows, key=_order)]
    pieces = [counted[i : i + ROWS_MAX] for i in range(0, len(counted), ROWS_MAX)] or [[]]
    # All but the last piece extend nothing: before all is written nothing more is proven.
    parts = [(end, "", last.seen, piece) for piece in pieces[:-1]]
    parts += [(until, why, seen, []) for until, why in spans[:-1]]
    parts.append((*spans[-1], seen, pieces[-1]))
    found: list[Record] = []
    for until, reason, at, piece in parts:
        before = found[-1] if found else last
        found.append(
            Record(
                sequence=before.sequence + 1,
                chain=last.chain,
                from_ms=before.to_ms,
                to_ms=until,
                why=reason[:WHY_CHARACTERS_MAX],
                seen=at,
                rows=tuple(piece),
            )
        )
    return tuple(found)


def _fault(last: Record, began_ms: int, look: Look) -> tuple[int | None, str]:
    """Return until when since the last record nothing is proven, and why; None: to the end."""
    if look.why:
        return None, look.why
    if not look.has_log:
        return None, NO_LOG
    is_same = abs(look.run_ms - last.seen.run_ms) <= RUN_SLACK_MS
    is_young = look.run_ms >= began_ms - STARTED_TOGETHER_MS
    if look.is_draining and not is_young and (not is_same or last.why == DRAINING):
        return None, DRAINING
    if look.failed > (last.seen.failed if is_same else 0):
        return None, NOT_WRITTEN
    if not last.seen.run_ms:
        return None, FIRST_LOOK
    return (None, "") if is_same else (look.run_ms + RUN_SLACK_MS, STARTED_AGAIN)


def _order(row: Row) -> tuple[object, ...]:
    return (row.minute, row.deployment, row.way, row.plane, row.zones or (), row.allowed or ())
