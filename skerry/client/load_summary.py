"""What a ledger says: counts, percentiles and gaps between two times; pure functions.

`skerry load` prints them, the demo's report is made of them.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from skerry.client.gateways import Result
from skerry.client.load import RequestRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSummary:
    """Figures of some requests; times in seconds, None where there is nothing to measure."""

    requests: int
    ok: int
    failed: int
    interrupted: int
    failed_over: int
    tokens: int
    ttft_p50: float | None
    ttft_p90: float | None
    ttft_p99: float | None
    longest_gap_seconds: float | None


def started_between(
    records: Iterable[RequestRecord], start: float, end: float
) -> tuple[RequestRecord, ...]:
    """Return the requests that were sent in [start, end)."""
    return tuple(record for record in records if start <= record.started_at < end)


def interrupted_between(
    records: Iterable[RequestRecord], start: float, end: float
) -> tuple[RequestRecord, ...]:
    """Return the streams that broke in [start, end), whenever they had begun."""
    return tuple(
        record
        for record in records
        if record.result is Result.INTERRUPTED and start <= record.ended_at < end
    )


def summarise(records: Sequence[RequestRecord]) -> LoadSummary:
    """Return the figures of the requests."""
    counts = dict.fromkeys(Result, 0)
    for record in records:
        counts[record.result] += 1
    ttfts = [record.ttft_seconds for record in records if record.ttft_seconds is not None]
    return LoadSummary(
        requests=len(records),
        ok=counts[Result.OK],
        failed=counts[Result.FAILED],
        interrupted=counts[Result.INTERRUPTED],
        failed_over=sum(1 for r in records if r.result is Result.OK and r.attempts > 1),
        tokens=sum(record.tokens for record in records),
        ttft_p50=percentile(ttfts, 0.5),
        ttft_p90=percentile(ttfts, 0.9),
        ttft_p99=percentile(ttfts, 0.99),
        longest_gap_seconds=longest_gap_seconds(records),
    )


def percentile(values: Iterable[float], fraction: float) -> float | None:
    """Return the smallest value that at least that fraction does not exceed; None for none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def longest_gap_seconds(records: Iterable[RequestRecord]) -> float | None:
    """Return the longest time between two first tokens; None with fewer than two."""
    moments = sorted(r.first_token_at for r in records if r.first_token_at is not None)
    if len(moments) < 2:
        return None
    return max(after - before for before, after in itertools.pairwise(moments))


def first_success_after(
    records: Iterable[RequestRecord], moment: float, preferred: str | None = None
) -> RequestRecord | None:
    """Return the request sent after the moment whose first token came first and that ended well.

    With `preferred`, only among those that began at that gateway.
    """
    return min(
        (
            record
            for record in records
            if record.started_at >= moment
            and record.result is Result.OK
            and record.first_token_at is not None
            and preferred in (None, record.preferred)
        ),
        key=lambda record: record.first_token_at or 0.0,
        default=None,
    )
