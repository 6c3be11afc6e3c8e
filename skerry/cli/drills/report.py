"""What a drill came to, and whether the promises held: pure.

`runner` hands over what it measured; the command line prints the report or writes it as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from skerry.cli.drills.catalogue import Drill, Hurts, Target
from skerry.cli.drills.samples import (
    Sample,
    away_seconds,
    covered,
    first_at,
    is_unheard,
    moves_since,
    totals,
)
from skerry.client.gateways import Result
from skerry.client.load_ledger import RequestRecord
from skerry.client.load_summary import first_success_after, summarise
from skerry.client.rows import ChangeRow

CHANGES_TOLD_MAX = 50
# Replicas start again one after another, engines load anew, the control plane lets a grace pass.
RESTORED_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A drill as it went; `engines` are process ids by PLANE/REPLICA, before and after.

    `restored_at` is None when the fleet was not whole again in time; `stopped` when somebody
    ended the drill early.
    """

    drill: Drill
    target: Target
    began: str
    fault_at: float
    put_back_at: float
    restored_at: float | None
    before: Sample
    samples: Sequence[Sample]
    records: Sequence[RequestRecord]
    engines_before: Mapping[str, int]
    engines_after: Mapping[str, int]
    changes: Sequence[ChangeRow] = ()
    standbys: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise: in words, what was measured, what the limit is, and whether it held."""

    promise: str
    measured: float | None
    limit: float
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """The report of a drill; seconds from the fault, None for what did not happen or was not asked.

    `interrupted_elsewhere` are streams that broke and did not run where the fault was.
    """

    drill: str
    target: str
    began: str
    seconds: float
    requests: int
    ok: int
    failed: int
    interrupted: int
    interrupted_elsewhere: int
    failed_over: int
    continued: int
    detected_seconds: float | None
    shifted_seconds: float | None
    decided_seconds: float | None
    replaced_seconds: float | None
    leader_seconds: float | None
    back_seconds: float | None
    restored_seconds: float | None
    control_plane_away_seconds: float
    moves: int
    engines_restarted: int
    cost_per_hour_before: float
    cost_per_hour_meanwhile: float
    cost_per_hour_after: float
    changes: tuple[str, ...]
    promises: tuple[Check, ...]
    stopped: bool

    @property
    def held(self) -> bool:
        """Say whether every promise held."""
        return all(check.held for check in self.promises)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, numbers rounded to what was measured."""
        return {**_rounded(asdict(self)), "held": self.held}


def make_report(found: Measured) -> DrillReport:
    """Return the report of a drill."""
    told = summarise(found.records)
    planes, since = found.target.planes, found.fault_at
    wanted = totals(found.before.placed)
    during = [one for one in found.samples if one.at <= found.put_back_at]
    replaces = found.drill.hurts in (Hurts.PLANE, Hurts.REGION)
    decided = ready = None
    if replaces:
        decided = _moment(during, since, lambda one: covered(one.placed, wanted, planes))
        ready = _moment(during, since, lambda one: covered(one.ready, wanted, planes))
    costs = [one.cost_per_hour for one in during if one.answered]
    last = next((one for one in reversed(found.samples) if one.answered), found.before)
    report = DrillReport(
        drill=found.drill.name,
        target=found.target.describe(),
        began=found.began,
        seconds=found.put_back_at - since,
        requests=told.requests,
        ok=told.ok,
        failed=told.failed + told.shed,
        interrupted=told.interrupted,
        interrupted_elsewhere=len(_elsewhere(found)),
        failed_over=told.failed_over,
        continued=told.continued,
        detected_seconds=_detected(found, during),
        shifted_seconds=_shifted(found),
        decided_seconds=decided,
        replaced_seconds=ready,
        leader_seconds=_led(found, during),
        back_seconds=_moment(found.samples, since, lambda one: one.is_target_back is True),
        restored_seconds=(
            None if found.restored_at is None else found.restored_at - found.put_back_at
        ),
        control_plane_away_seconds=away_seconds(found.samples),
        moves=moves_since(found.samples, found.before.placed),
        engines_restarted=len(_restarted(found)),
        cost_per_hour_before=found.before.cost_per_hour,
        cost_per_hour_meanwhile=max(costs, default=found.before.cost_per_hour),
        cost_per_hour_after=last.cost_per_hour,
        changes=_changes(found.changes),
        promises=(),
        stopped=found.stopped,
    )
    return _judged(found, report)


def _judged(found: Measured, report: DrillReport) -> DrillReport:
    promised, checks = found.drill.promises, []
    if report.requests:
        checks.append(_at_most("requests that fail before an answer begins", report.failed, 0))
        if promised.streams_end:
            checks.append(_at_most("streams that break", report.interrupted, 0))
        else:
            elsewhere = report.interrupted_elsewhere
            checks.append(_at_most("streams that break elsewhere", elsewhere, 0))
        if promised.shifted_seconds_max is not None and not report.stopped:
            limit = promised.shifted_seconds_max
            checks.append(_at_most("seconds to the first answer", report.shifted_seconds, limit))
    if promised.moves_max is not None:
        checks.append(_at_most("replicas moved", report.moves, promised.moves_max))
    if promised.engines_stay:
        checks.append(_at_most("engines started again", report.engines_restarted, 0))
    timed = [
        ("seconds to notice", report.detected_seconds, promised.detected_seconds_max),
        ("seconds to the decision", report.decided_seconds, promised.decided_seconds_max),
        ("seconds to be back", report.back_seconds, promised.back_seconds_max),
    ]
    if found.standbys:
        timed.append(("seconds to a leader", report.leader_seconds, promised.leader_seconds_max))
    if not report.stopped:
        checks += [_at_most(what, value, limit) for what, value, limit in timed if limit]
    whole = report.restored_seconds is not None
    checks.append(
        Check(
            promise="fleet whole again afterwards",
            measured=report.restored_seconds,
            limit=RESTORED_SECONDS_MAX,
            held=whole,
        )
    )
    return replace(report, promises=tuple(checks))


def _at_most(what: str, measured: float | None, limit: float) -> Check:
    held = measured is not None and measured <= limit
    return Check(promise=what, measured=measured, limit=limit, held=held)


def _moment(samples: Sequence[Sample], since: float, is_so: Any) -> float | None:
    seconds = first_at(samples, since, is_so)
    return None if seconds < 0 else seconds


def _detected(found: Measured, during: Sequence[Sample]) -> float | None:
    """Return when the fault was known: a plane's to the control plane, and the other way round."""
    planes = found.target.planes
    match found.drill.hurts:
        case Hurts.CONTROL_PLANES | Hurts.LEADER:
            linked = found.before.linked
            return _moment(during, found.fault_at, lambda one: bool(linked - one.linked))
        case Hurts.AGENT | Hurts.PLANE | Hurts.REGION:
            return _moment(during, found.fault_at, lambda one: is_unheard(one, planes))
        case _:
            return None


def _led(found: Measured, during: Sequence[Sample]) -> float | None:
    if found.drill.hurts is not Hurts.LEADER or not found.standbys:
        return None
    old = found.target.control_planes
    return _moment(during, found.fault_at, lambda one: bool(one.leader) and one.leader not in old)


def _shifted(found: Measured) -> float | None:
    """Return when the first who would have gone to the hurt plane was answered."""
    preferred = found.target.planes[0] if found.target.planes else None
    first = first_success_after(found.records, found.fault_at, preferred)
    if first is None or first.first_token_at is None:
        return None
    return first.first_token_at - found.fault_at


def _elsewhere(found: Measured) -> tuple[RequestRecord, ...]:
    hurt = found.target.planes
    return tuple(
        record
        for record in found.records
        if record.result is Result.INTERRUPTED
        and record.gateway not in hurt
        and record.plane not in hurt
    )


def _restarted(found: Measured) -> tuple[str, ...]:
    """Return the replicas that were not hurt and whose engine is another process now.

    One that is gone counts as well, unless the drill makes replicas move.
    """
    after, moves = found.engines_after, found.drill.promises.moves_max is None
    return tuple(
        sorted(
            name
            for name, pid in found.engines_before.items()
            if not _is_hurt(found, name) and after.get(name) != pid and (name in after or not moves)
        )
    )


def _is_hurt(found: Measured, name: str) -> bool:
    plane, _, replica = name.partition("/")
    if plane not in found.target.planes:
        return False
    match found.drill.hurts:
        case Hurts.ENGINE:
            return replica == found.target.replica
        case Hurts.PLANE | Hurts.REGION:
            return True
        case _:
            return False


def _changes(changes: Sequence[ChangeRow]) -> tuple[str, ...]:
    told = [f"{row.kind} {row.subject}: {row.summary}" for row in changes[:CHANGES_TOLD_MAX]]
    more = len(changes) - len(told)
    return (*told, f"and {more} more") if more else tuple(told)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
