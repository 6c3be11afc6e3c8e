"""What the demo's story comes to: the figures of demo-report.json and the promises; pure.

`skerry.cli.demo` collects the moments and the ledger; this module makes the report of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from skerry.client.gateways import Result
from skerry.client.load_ledger import RequestRecord
from skerry.client.load_summary import (
    first_success_after,
    interrupted_between,
    percentile,
    started_between,
    summarise,
)

# The promises of the story; figures without a bound here are shown, not judged.
QUIET_SECONDS = 10.0
DOWN_SECONDS = 30.0
FIRST_SUCCESS_MS_MAX = 3_000.0
DECIDED_SECONDS_MAX = 20.0
# After a kill, for streams that the killed process carried to be found broken.
BREAK_SECONDS = 5.0

Placements = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One process killed: when, at which plane, and whether streams run through it."""

    at: float
    plane: str
    carries_streams: bool


@dataclass(slots=True, kw_only=True)
class Moments:
    """When things happened, in seconds of the ledger's clock, and what was seen then."""

    control_plane_killed: float = 0.0
    control_plane_back: float = 0.0
    kills: dict[str, Kill] = field(default_factory=dict)
    plane: str = ""
    plane_killed: float = 0.0
    replacement_decided: float | None = None
    replacement_ready: float | None = None
    plane_back: float | None = None
    loss_reason: str = ""
    loss_witnesses: Mapping[str, str] = field(default_factory=dict)
    replicas_restarted_by_return: int = 0
    placements_before: Placements = field(default_factory=dict)
    placements_after: Placements = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """demo-report.json; the first fourteen fields are a contract."""

    requests_total: int
    requests_failed: int
    streams_interrupted: int
    control_plane_down_seconds: float
    requests_while_down: int
    failed_while_down: int
    interrupted_while_down: int
    plane_killed: str
    first_success_after_plane_kill_ms: float | None
    replacement_decided_seconds: float | None
    replacement_ready_seconds: float | None
    replicas_restarted_by_control_plane_return: int
    placements_before: Placements
    placements_after: Placements
    failed_while_quiet: int
    interrupted_while_quiet: int
    interrupted_unexplained: int
    requests_failed_over: int
    plane_loss_reason: str
    plane_loss_witnesses: Mapping[str, str]
    plane_back_seconds: float | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    ttft_p99_while_down_ms: float | None
    longest_gap_seconds: float | None
    tokens_total: int
    memory_peak_mib: float
    duration_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, times rounded to what was measured."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def make_report(
    records: Sequence[RequestRecord],
    moments: Moments,
    *,
    memory_peak_mib: float,
    duration_seconds: float,
) -> DemoReport:
    """Return the report of a story that was told to its end."""
    killed, back = moments.control_plane_killed, moments.control_plane_back
    summary = summarise(records)
    down = started_between(records, killed, back)
    quiet_end = killed + QUIET_SECONDS
    success = first_success_after(records, moments.plane_killed, moments.plane)
    return DemoReport(
        requests_total=summary.requests,
        requests_failed=summary.failed,
        streams_interrupted=summary.interrupted,
        control_plane_down_seconds=back - killed,
        requests_while_down=len(down),
        failed_while_down=_failed(down),
        interrupted_while_down=len(interrupted_between(records, killed, back)),
        plane_killed=moments.plane,
        first_success_after_plane_kill_ms=(
            _milliseconds(success.first_token_at, moments.plane_killed) if success else None
        ),
        replacement_decided_seconds=_since(moments.replacement_decided, moments.plane_killed),
        replacement_ready_seconds=_since(moments.replacement_ready, moments.plane_killed),
        replicas_restarted_by_control_plane_return=moments.replicas_restarted_by_return,
        placements_before=dict(moments.placements_before),
        placements_after=dict(moments.placements_after),
        failed_while_quiet=_failed(started_between(records, killed, quiet_end)),
        interrupted_while_quiet=len(interrupted_between(records, killed, quiet_end)),
        interrupted_unexplained=len(unexplained(records, moments)),
        requests_failed_over=summary.failed_over,
        plane_loss_reason=moments.loss_reason,
        plane_loss_witnesses=dict(moments.loss_witnesses),
        plane_back_seconds=_since(moments.plane_back, moments.plane_killed),
        ttft_p50_ms=_thousandfold(summary.ttft_p50),
        ttft_p99_ms=_thousandfold(summary.ttft_p99),
        ttft_p99_while_down_ms=_thousandfold(
            percentile([r.ttft_seconds for r in down if r.ttft_seconds is not None], 0.99)
        ),
        longest_gap_seconds=summary.longest_gap_seconds,
        tokens_total=summary.tokens,
        memory_peak_mib=memory_peak_mib,
        duration_seconds=duration_seconds,
    )


def broken_promises(report: DemoReport) -> tuple[str, ...]:
    """Return a sentence for every promise of the story that did not hold."""
    checks = (*_checks_without_control_plane(report), *_checks_of_plane(report))
    return tuple(sentence for holds, sentence in checks if not holds)


def _checks_without_control_plane(report: DemoReport) -> tuple[tuple[bool, str], ...]:
    quiet = (report.failed_while_quiet, report.interrupted_while_quiet)
    restarted = report.replicas_restarted_by_control_plane_return
    failed = f"{report.requests_failed} requests failed that had not begun to answer"
    noisy = (
        f"in the first {QUIET_SECONDS:.0f} s without the control plane {quiet[0]} requests failed"
        f" and {quiet[1]} streams broke"
    )
    strange = f"{report.interrupted_unexplained} streams broke that no kill explains"
    short = f"the control plane was away for {report.control_plane_down_seconds:.1f} s only"
    return (
        (report.requests_total > 0, "no request was sent"),
        (report.requests_failed == 0, failed),
        (quiet == (0, 0), noisy),
        (report.interrupted_unexplained == 0, strange),
        (report.control_plane_down_seconds >= DOWN_SECONDS, short),
        (restarted == 0, f"the control plane's return restarted {restarted} replicas"),
        (
            report.placements_before == report.placements_after,
            "the control plane's return moved placements",
        ),
    )


def _checks_of_plane(report: DemoReport) -> tuple[tuple[bool, str], ...]:
    first, decided = report.first_success_after_plane_kill_ms, report.replacement_decided_seconds
    slow = f"the first success after the plane's death took {_shown(first)} ms"
    late = f"replacements were decided after {_shown(decided)} s"
    is_quick = first is not None and first <= FIRST_SUCCESS_MS_MAX
    is_decided = decided is not None and decided <= DECIDED_SECONDS_MAX
    verdicts = report.plane_loss_witnesses
    is_witnessed = bool(verdicts) and set(verdicts.values()) == {"unreachable"}
    seen = ", ".join(f"{plane}: {verdict}" for plane, verdict in verdicts.items()) or "nobody"
    return (
        (bool(report.plane_loss_reason), "the plane was never judged lost"),
        (is_witnessed, f"the peers did not see the plane gone ({seen})"),
        (is_quick, f"{slow} (at most {FIRST_SUCCESS_MS_MAX:.0f})"),
        (is_decided, f"{late} (at most {DECIDED_SECONDS_MAX:.0f})"),
        (report.replacement_ready_seconds is not None, "the replacements never served"),
        (report.plane_back_seconds is not None, "the dead plane did not come back"),
    )


def unexplained(records: Sequence[RequestRecord], moments: Moments) -> tuple[RequestRecord, ...]:
    """Return the streams that broke when nothing that carried them had been killed.

    Only the death of a replica, a gateway or a whole plane explains a broken stream, and only of
    one that went through that plane's gateway: an agent's death must break nothing.
    """
    plane_kill = Kill(at=moments.plane_killed, plane=moments.plane, carries_streams=True)
    kills = [kill for kill in (*moments.kills.values(), plane_kill) if kill.carries_streams]
    return tuple(
        record
        for record in records
        if record.result is Result.INTERRUPTED
        and not any(
            record.gateway == kill.plane and kill.at <= record.ended_at < kill.at + BREAK_SECONDS
            for kill in kills
        )
    )


def _failed(records: Sequence[RequestRecord]) -> int:
    return sum(1 for record in records if record.result in (Result.FAILED, Result.SHED))


def _since(moment: float | None, start: float) -> float | None:
    return None if moment is None else moment - start


def _milliseconds(moment: float | None, start: float) -> float | None:
    return None if moment is None else (moment - start) * 1000


def _thousandfold(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _shown(value: float | None) -> str:
    return "for ever" if value is None else f"{value:.1f}"
