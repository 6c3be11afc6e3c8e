"""What a ledger says: counts, percentiles and gaps between two times; pure functions.

`skerry load` prints them, the demo's report is made of them.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from skerry.client.gateways import Result
from skerry.client.load_ledger import RequestRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSummary:
    """Figures of some requests; times in seconds, None where there is nothing to measure.

    `itl` are pauses between pieces of streams, `e2e` whole answers. `late_p99`: how late requests
    left; where that is not near 0, the generator and not the fleet was the limit.
    """

    requests: int
    ok: int
    failed: int
    interrupted: int
    shed: int
    failed_over: int
    continued: int
    tokens: int
    seconds: float
    requests_per_second: float
    tokens_per_second: float
    ttft_p50: float | None
    ttft_p90: float | None
    ttft_p99: float | None
    itl_p50: float | None
    itl_p90: float | None
    itl_p99: float | None
    e2e_p50: float | None
    e2e_p99: float | None
    longest_gap_seconds: float | None
    late_p99: float | None
    causes: Mapping[str, int]
    planes: Mapping[str, int]

    @property
    def is_clean(self) -> bool:
        """Say whether every request was sent and answered whole."""
        return self.ok == self.requests


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
    results = Counter(record.result for record in records)
    ttfts = sorted(r.ttft_seconds for r in records if r.ttft_seconds is not None)
    pauses = sorted(itertools.chain.from_iterable(record.itl_seconds for record in records))
    whole = sorted(r.ended_at - r.started_at for r in records if r.result is Result.OK)
    late = sorted(r.started_at - r.planned_at for r in records if r.planned_at is not None)
    tokens = sum(record.tokens for record in records)
    seconds = _span(records)
    return LoadSummary(
        requests=len(records),
        ok=results[Result.OK],
        failed=results[Result.FAILED],
        interrupted=results[Result.INTERRUPTED],
        shed=results[Result.SHED],
        failed_over=sum(1 for r in records if r.result is Result.OK and r.attempts > 1),
        continued=sum(1 for r in records if r.result is Result.OK and r.continued),
        tokens=tokens,
        seconds=seconds,
        requests_per_second=results[Result.OK] / seconds if seconds else 0.0,
        tokens_per_second=tokens / seconds if seconds else 0.0,
        ttft_p50=_at(ttfts, 0.5),
        ttft_p90=_at(ttfts, 0.9),
        ttft_p99=_at(ttfts, 0.99),
        itl_p50=_at(pauses, 0.5),
        itl_p90=_at(pauses, 0.9),
        itl_p99=_at(pauses, 0.99),
        e2e_p50=_at(whole, 0.5),
        e2e_p99=_at(whole, 0.99),
        longest_gap_seconds=longest_gap_seconds(records),
        late_p99=_at(late, 0.99),
        causes=dict(Counter(r.cause.value for r in records if r.cause is not None)),
        planes=dict(Counter(r.plane or r.gateway for r in records if r.attempts)),
    )


def _span(records: Sequence[RequestRecord]) -> float:
    if not records:
        return 0.0
    return max(r.ended_at for r in records) - min(r.started_at for r in records)


def percentile(values: Iterable[float], fraction: float) -> float | None:
    """Return the smallest value that at least that fraction does not exceed; None for none."""
    return _at(sorted(values), fraction)


def _at(ordered: Sequence[float], fraction: float) -> float | None:
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
