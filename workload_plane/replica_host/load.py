"""How busy an engine is, read from its Prometheus page. Pure."""

import dataclasses
import math
import re
from dataclasses import dataclass

from workload_plane.engines.port import LoadMetrics

# Seconds, and how many took so long at most, the shortest first; the last is all of them.
Buckets = tuple[tuple[float, float], ...]
BUCKETS_MAX = 64
BUCKETED = ("first_token_buckets", "token_interval_buckets")  # the fields that are histograms
_LE = re.compile(r'[{,]le="([^"]{1,24})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What the engine told of itself; None is not known, which is not zero.

    `answered` says whether there was a page to read: without one nothing at all is known, while
    a count that is not on a page is one that the engine does not keep.
    """

    running_requests: int | None = None
    queued_requests: int | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    kv_used_ratio: float | None = None
    first_token_seconds: float | None = None
    first_tokens: int | None = None
    first_token_buckets: Buckets | None = None
    token_interval_seconds: float | None = None
    token_intervals: int | None = None
    token_interval_buckets: Buckets | None = None
    answered: bool = True


UNKNOWN_LOAD = EngineLoad(answered=False)


def may_be_busy(load: EngineLoad, names: LoadMetrics) -> bool:
    """Return whether requests may be under way: they are, or the engine is too busy to tell."""
    if load.running_requests or load.queued_requests:
        return True
    return not load.answered and bool(names.running_requests or names.queued_requests)


def parse_load(page: str, names: LoadMetrics) -> EngineLoad:
    """Return the load in a Prometheus page of one engine.

    Samples of one name with different labels, such as one for each of an engine's ranks, add up;
    of the ratio their mean is taken, as each tells of a cache of its own.
    """
    wanted = {name for name in dataclasses.astuple(names) if name is not None}
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    histograms: dict[str, dict[float, float]] = {
        name: {} for name in (names.first_token_buckets, names.token_interval_buckets) if name
    }
    for line in page.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name not in wanted:
            continue
        # NAME{LABELS} VALUE [TIMESTAMP]; a label's value may hold spaces, so cut behind it.
        rest = line.rpartition("}")[2] if "{" in line else line[len(name) :]
        try:
            value = float(rest.split()[0])
        except (IndexError, ValueError):
            continue
        if name in histograms:
            _fill(histograms[name], line, value)
            continue
        sums[name] = sums.get(name, 0.0) + value
        counts[name] = counts.get(name, 0) + 1
    return EngineLoad(
        running_requests=_whole(sums, names.running_requests),
        queued_requests=_whole(sums, names.queued_requests),
        prompt_tokens=_whole(sums, names.prompt_tokens),
        generated_tokens=_whole(sums, names.generated_tokens),
        cached_prompt_tokens=_whole(sums, names.cached_prompt_tokens),
        kv_used_ratio=_ratio(sums, counts, names.kv_used_ratio),
        first_token_seconds=_seconds(sums, names.first_token_seconds),
        first_tokens=_whole(sums, names.first_tokens),
        first_token_buckets=_sorted(histograms.get(names.first_token_buckets or "")),
        token_interval_seconds=_seconds(sums, names.token_interval_seconds),
        token_intervals=_whole(sums, names.token_intervals),
        token_interval_buckets=_sorted(histograms.get(names.token_interval_buckets or "")),
    )


def _whole(sums: dict[str, float], name: str | None) -> int | None:
    value = sums.get(name) if name else None
    return None if value is None or not 0 <= value < 2**63 else int(value)


def _fill(buckets: dict[float, float], line: str, value: float) -> None:
    found = _LE.search(line)
    try:
        bound = float(found.group(1)) if found else math.nan
    except ValueError:
        return
    if not math.isnan(bound) and 0.0 <= value < math.inf:
        buckets[bound] = buckets.get(bound, 0.0) + value


def _sorted(buckets: dict[float, float] | None) -> Buckets | None:
    """Return the buckets, None where they are no histogram with all in its last one."""
    found = tuple(sorted((buckets or {}).items()))
    if not found or len(found) > BUCKETS_MAX or found[-1][0] != math.inf:
        return None
    return found


def _seconds(sums: dict[str, float], name: str | None) -> float | None:
    value = sums.get(name) if name else None
    return None if value is None or not 0.0 <= value < math.inf else value


def _ratio(sums: dict[str, float], counts: dict[str, int], name: str | None) -> float | None:
    if not name or name not in sums:
        return None
    value = sums[name] / counts[name]
    return None if value is None or not 0 <= value <= 1 else value
