"""The scheduler's evidence: `make bench-scheduler`, or `python benchmarks/bench_scheduler.py`.

Every size, seed and method is measured in a process of its own (`benchmarks.rows`), one after the
other. Writes benchmarks/results/scheduler.json, and from it docs/benchmarks/scheduler.md and plots.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scheduler.json"
DATA = Path(os.environ.get("SKERRY_PLACEMENT_DATA", ROOT / "../shared/data/placement"))
# Nothing here imports NumPy: what this process had resident would count for its children.
SIZES = ("10x50", "100x500", "1000x2000", "1M")
METHODS = ("skerry", "greedy", "best_fit", "cp_sat_full")
# Every row has these, null where there is nothing to tell.
KEYS = (
    *("cold_s", "warm_s", "gap", "served_set_proven", "unmet", "moves", "peak_mb"),
    "repair_ms",
)
ROW_SECONDS_MAX = 900.0  # of one row: the largest takes about a minute
FILE_SEED = "file"

Row = dict[str, Any]


def main() -> None:
    """Measure what is asked for, keep the other rows, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=3, help="generated fleets of each size")
    parser.add_argument("--report-only", action="store_true", help="from the rows there are")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the bound of whole replicas"
    )
    told = parser.parse_args()
    if not told.report_only:
        measure(told.sizes, told.methods, told.seeds, certify=not told.quick)
    # After the rows: it loads a plotting library.
    from benchmarks.report import write_report

    write_report(_former())


def measure(sizes: Sequence[str], methods: Sequence[str], seeds: int, *, certify: bool) -> None:
    """Measure row after row; each is written as soon as it is there."""
    values = _former()
    values["machine"] = machine()
    with tempfile.TemporaryDirectory() as cache:
        # An empty cache once: what compiling costs is told, and no row pays for it.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": cache}
        values["compile_s"] = _run({"method": "warm_up"}, environment).get("compile_s")
        print(f"compiled in {values['compile_s']} s", flush=True)
        for size in sizes:
            for seed in _seeds(size, seeds):
                for method in (m for m in METHODS if m in methods):
                    known = _row_of(values["rows"], size, "skerry", seed)
                    job: Row = {"size": size, "method": method, "seed": seed}
                    job |= {"known": known, "certify": certify}
                    _replace(values["rows"], _named(job, _run(job, environment)))
                    RESULTS.parent.mkdir(parents=True, exist_ok=True)
                    RESULTS.write_text(json.dumps(values, indent=1) + "\n")


def machine() -> str:
    """Return what the figures were taken on."""
    model = platform.machine()
    told = Path("/proc/cpuinfo")
    if told.exists():
        names = [line for line in told.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _former() -> dict[str, Any]:
    """Return the results there are, as far as they have a method: others are of another format."""
    former: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows = [row for row in former.get("rows", []) if "method" in row]
    return {
        "machine": former.get("machine", ""),
        "compile_s": former.get("compile_s"),
        "rows": rows,
    }


def _seeds(size: str, count: int) -> list[str]:
    """Return the seeds of a size; its shared instance is one more where it is there."""
    file = DATA / f"placement_{size}_seed1.json.gz"
    return [*(str(seed) for seed in range(1, count + 1)), *([FILE_SEED] if file.exists() else [])]


def _run(job: Mapping[str, Any], environment: Mapping[str, str]) -> Row:
    """Return what a process of its own says of a job; `error` where it says nothing."""
    command = [sys.executable, "-m", "benchmarks.rows", json.dumps(job)]
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            timeout=ROW_SECONDS_MAX,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {ROW_SECONDS_MAX:g} s"}
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
        return {"error": f"ended with {ended.returncode}: {last[:200]}"}
    row: Row = json.loads(ended.stdout.splitlines()[-1])
    return row


def _named(job: Mapping[str, Any], found: Row) -> Row:
    seed = job["seed"] if job["seed"] == FILE_SEED else int(job["seed"])
    row = {"size": job["size"], "method": job["method"], "seed": seed, **dict.fromkeys(KEYS)}
    row |= found
    if job["method"] != "skerry":
        row.pop("short", None)  # only ours is what the others are measured against
    shown = {key: row[key] for key in ("size", "method", "seed", *KEYS)}
    told = {key: row[key] for key in ("faults", "error", "status") if row.get(key)}
    print(json.dumps({**shown, **told}), flush=True)
    return row


def _row_of(rows: Sequence[Row], size: str, method: str, seed: str) -> Row | None:
    wanted = (size, method, seed)
    found = (r for r in rows if (r["size"], r["method"], str(r["seed"])) == wanted)
    return next(found, None)


def _replace(rows: list[Row], row: Row) -> None:
    """Put the row in its place, by size, seed and method."""
    former = _row_of(rows, row["size"], row["method"], str(row["seed"]))
    if former is not None:
        rows.remove(former)
    rows.append(row)
    rows.sort(key=lambda r: (SIZES.index(r["size"]), str(r["seed"]), METHODS.index(r["method"])))


if __name__ == "__main__":
    main()
