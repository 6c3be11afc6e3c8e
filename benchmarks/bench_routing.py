"""Which replica gets a request: `make bench-routing`, or `python benchmarks/bench_routing.py`.

The Mooncake trace through the gateway's own picker and beside it random, least request, session
hash, SMG's and SGLang's rule and an oracle, with simulated engines under a virtual clock. Writes
benchmarks/results/routing.json, docs/benchmarks/routing.md and its plot.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench_scheduler import machine
from benchmarks.routing.baselines import (
    CacheAware,
    ExactKvAware,
    LeastRequest,
    Random,
    SessionHash,
)
from benchmarks.routing.page import draw, write_page
from benchmarks.routing.steered import Steered
from benchmarks.routing.trace import Asked, conversations, mooncake, shared_share
from benchmarks.routing.world import ENGINE, Outcome, Policy, World
from benchmarks.venvs import CannotInstall
from skerry.fleet.routing import RoutingPolicy
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "routing.json"
PAGE = ROOT / "docs" / "benchmarks" / "routing.md"
DATA = Path(os.environ.get("SKERRY_TRACES", ROOT / "../shared/data/traces"))
TRACE = DATA / "mooncake_conversation.parquet"
ROWS_MAX = 1_000_000
CLOCK = SystemClock()
# The trace is given to fewer and fewer engines: one load would only show one point of a curve.
ENGINES = (16, 12, 8)
KV_CACHE_TOKENS = 4_000_000  # of one engine: its own memory and its host's
SLOTS = int(ENGINE["concurrent_requests"])

POLICIES: tuple[Callable[[World], Policy], ...] = (
    lambda world: Random(len(world.engines)),
    lambda world: LeastRequest(len(world.engines)),
    lambda world: SessionHash(len(world.engines)),
    lambda world: CacheAware(len(world.engines), name="cache_aware (SMG)", by_tree=False),
    lambda world: CacheAware(len(world.engines), name="cache_aware (SGLang)", by_tree=True),
    lambda world: Steered(len(world.engines), RoutingPolicy.LEAST_REQUEST, SLOTS),
    lambda world: Steered(len(world.engines), RoutingPolicy.SESSION, SLOTS),
    lambda world: Steered(len(world.engines), RoutingPolicy.LEAST_TOKENS, SLOTS),
    lambda world: Steered(len(world.engines), RoutingPolicy.PREFIX_TOKENS, SLOTS),
    lambda world: ExactKvAware(world.engines),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results and the page; return the exit code."""
    told = parser().parse_args(arguments)
    if told.report_only:
        report(json.loads(RESULTS.read_text()))
        return 0
    try:
        asked, source = requests_of(told.trace, told.synthetic, told.rows)
    except (SkerryError, CannotInstall) as error:
        print(f"bench-routing: {error}", file=sys.stderr)
        return 2
    if not asked:
        print(f"bench-routing: SKIPPED, {source}", file=sys.stderr)
        return 0
    rows = []
    for engines in told.engines:
        rows += measure(asked, engines, told.kv_cache_tokens)
    values = {
        "machine": machine(),
        "source": source,
        "requests": len(asked),
        "seconds": round(asked[-1].at, 1),
        "shared_share": round(shared_share(asked), 4),
        "kv_cache_tokens": told.kv_cache_tokens,
        "engine": ENGINE,
        "rows": rows,
    }
    if told.out is not None:
        told.out.write_text(json.dumps(values, indent=1) + "\n")
        return 0
    RESULTS.write_text(json.dumps(values, indent=1) + "\n")
    report(values)
    return 0


def report(values: Mapping[str, Any]) -> None:
    """Write the page and the plot."""
    draw(values, PAGE.parent)
    write_page(values, PAGE)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--trace", type=Path, help=".parquet, .jsonl or .csv with block hashes")
    found.add_argument("--synthetic", type=int, metavar="N", help="N made-up requests instead")
    found.add_argument("--rows", type=int, default=ROWS_MAX, help="of the trace, from its start")
    found.add_argument("--engines", type=int, nargs="+", default=ENGINES)
    found.add_argument("--kv-cache-tokens", type=int, default=KV_CACHE_TOKENS)
    found.add_argument("--report-only", action="store_true", help="from the rows there are")
    found.add_argument("--out", type=Path, help="write the figures here, and no page")
    return found


def requests_of(
    trace: Path | None, synthetic: int | None, rows: int
) -> tuple[tuple[Asked, ...], str]:
    """Return the requests and where they are from; none and the reason without the trace."""
    if synthetic is not None:
        return conversations(synthetic, rate=4.0), f"{synthetic} made-up requests"
    if trace is None and not TRACE.is_file():
        told = "the Mooncake trace is not here; name it with --trace FILE or SKERRY_TRACES=FOLDER"
        return (), told
    path = trace or TRACE
    return mooncake(path, rows), path.name


def measure(asked: Sequence[Asked], engines: int, kv_cache_tokens: int) -> list[dict[str, Any]]:
    """Return a row for each policy with so many engines."""
    rows = []
    for make in POLICIES:
        world = World(engines, kv_cache_tokens)
        policy = make(world)
        started = CLOCK.monotonic()
        outcome = world.run(asked, policy)
        row = row_of(policy.name, engines, outcome)
        rows.append(row)
        print(
            f"{engines} engines  {policy.name:<22} hit {row['hit']:.3f}"
            f"  TTFT {row['ttft_mean']:.2f} s  p99 {row['ttft_p99']:.1f} s"
            f"  ({CLOCK.monotonic() - started:.0f} s)",
            flush=True,
        )
    return rows


def row_of(name: str, engines: int, outcome: Outcome) -> dict[str, Any]:
    """Return the figures of one run."""
    ttft = sorted(outcome.ttft)
    return {
        "policy": name,
        "engines": engines,
        "answered": len(ttft),
        "hit": round(outcome.cached_tokens / max(1, outcome.prompt_tokens), 4),
        "ttft_mean": round(statistics.fmean(ttft), 4),
        "ttft_p50": round(ttft[len(ttft) // 2], 4),
        "ttft_p99": round(ttft[int(0.99 * (len(ttft) - 1))], 4),
        "e2e_mean": round(statistics.fmean(outcome.e2e), 3),
        "most_per_engine": max(outcome.per_engine),
        "least_per_engine": min(outcome.per_engine),
    }


if __name__ == "__main__":
    sys.exit(main())
