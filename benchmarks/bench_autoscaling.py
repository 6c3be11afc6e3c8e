"""Autoscaling policies on days of real load: `make bench-autoscaling`.

The autoscaler's own code and others' published rules replayed on the shared traces in virtual time.
Writes benchmarks/results/autoscaling.json row by row, docs/benchmarks/autoscaling.md and its plot;
a run that was cut short goes on where it stopped while the code it is of is the same, so that all
rows are of one. Where only the numbers of our own strategies moved, the rows of the others, which
do not know them, stay. `--anew` begins again.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.autoscaling.contest import (
    BOUNDS,
    DAYS,
    ENTRIES,
    OBJECTIVE,
    OWN_SETTING,
    TUNING_DAY,
    TUNING_HOURS,
    Entry,
    first_hours,
    fleet,
    replay,
)
from benchmarks.autoscaling.page import draw, write_page
from benchmarks.bench_scheduler import machine
from benchmarks.venvs import CannotInstall
from skerry.plumbing.clock import SystemClock
from skerry.replay.arrivals import Arrivals
from skerry.replay.catalogue import POOLED, request_seconds
from skerry.replay.world import Outcome

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "autoscaling.json"
PAGE = ROOT / "docs" / "benchmarks" / "autoscaling.md"
DATA = Path(os.environ.get("SKERRY_TRACES", ROOT / "../shared/data/traces"))
CODE = (
    "skerry/fleet/autoscaling/*.py",
    "skerry/fleet/coefficients.py",
    "skerry/replay/*.py",
    "benchmarks/autoscaling/contest.py",
    "benchmarks/autoscaling/days.py",
)
# What only our own policies read.
NUMBERS = "skerry/fleet/autoscaling/tuning.py"
CLOCK = SystemClock()
SERIES_DAY = "m-large"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, write the results and the page; return the exit code."""
    told = parser().parse_args(arguments)
    values = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not told.report_only:
        if not DATA.is_dir():
            print("bench-autoscaling: SKIPPED, no traces; SKERRY_TRACES=FOLDER", file=sys.stderr)
            return 0
        values = to_go_on_with({} if told.anew else values, *digests())
        values.setdefault("machine", machine())
        try:
            measure(values, told.days or list(DAYS)[1:])
        except CannotInstall as error:
            print(f"bench-autoscaling: {error}", file=sys.stderr)
            return 2
    if values.get("rows"):
        draw(values, PAGE.parent)
        write_page(values, PAGE)
    return 0


def to_go_on_with(values: dict[str, Any], code: str, numbers: str) -> dict[str, Any]:
    """Return what of the results so far is of this code and these numbers."""
    if values.get("code") != code:
        return {"code": code, "numbers": numbers, "rows": []}
    if values.get("numbers") == numbers:
        return values
    own = {one.name for one in ENTRIES if not one.published}
    kept = [row for row in values["rows"] if row["policy"] not in own]
    series = {name: one for name, one in values.get("series", {}).items() if name not in own}
    return {**values, "numbers": numbers, "rows": kept, "series": series}


def digests() -> tuple[str, str]:
    """Return what rows are of: the code that decides, replays or tunes, and our own numbers."""
    paths = {path for pattern in CODE for path in ROOT.glob(pattern)}
    numbers = ROOT / NUMBERS
    return digest_of(sorted(paths - {numbers})), digest_of([numbers])


def digest_of(paths: Sequence[Path]) -> str:
    """Return a digest of the files and their names."""
    found = sha256()
    for path in paths:
        found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--days", nargs="+", choices=list(DAYS), help="all but the tuning day")
    found.add_argument("--anew", action="store_true", help="forget what was measured before")
    found.add_argument("--report-only", action="store_true", help="from the rows there are")
    return found


def measure(values: dict[str, Any], names: Sequence[str]) -> None:
    """Replay each day under each policy, tuned on the tuning day before its first."""
    tuning = values.setdefault("tuning", {"settings": {}})
    rows: list[dict[str, Any]] = values["rows"]
    for day in names:
        done = {row["policy"] for row in rows if row["day"] == day}
        # Skerry's own first, then the bound: what a run that is cut short should have.
        own = [one for one in ENTRIES if not one.published and one.name not in done]
        own.sort(key=lambda one: one.name != POOLED)
        published = [one for one in reversed(ENTRIES) if one.published and one.name not in done]
        bounds = [name for name in BOUNDS if name not in done]
        if not (own or published or bounds):
            continue
        arrivals = DAYS[day](DATA)
        for entry in own:
            add(values, day, arrivals, partial(replay, entry, arrivals, OWN_SETTING, 1.0))
        for name in bounds[:1]:
            add(values, day, arrivals, partial(BOUNDS[name], arrivals))
        for entry in published:
            tune(values, entry)
            setting, cost = tuning["settings"][entry.name]["setting"], tuning["request_seconds"]
            add(values, day, arrivals, partial(replay, entry, arrivals, setting, cost))
        for name in bounds[1:]:
            add(values, day, arrivals, partial(BOUNDS[name], arrivals))


def tune(values: dict[str, Any], entry: Entry) -> None:
    """Find a policy's setting on the tuning day, from the largest down."""
    tuning = values["tuning"]
    if entry.name in tuning["settings"]:
        return
    arrivals = first_hours(tuning_day(), TUNING_HOURS)
    tuning["request_seconds"] = request_seconds(arrivals, fleet(False))
    tried = []
    for setting in entry.settings:
        found = replay(entry, arrivals, setting, tuning["request_seconds"])
        tried.append([setting, round(found.attainment, 4), round(found.replica_hours, 1)])
        print(f"tuning  {entry.name:<42} {tried[-1]}", flush=True)
        if found.attainment >= OBJECTIVE:
            break
    tuning["settings"][entry.name] = {"setting": tried[-1][0], "tried": tried}
    save(values)


@lru_cache(maxsize=1)
def tuning_day() -> Arrivals:
    """Return the tuning day, made once."""
    return DAYS[TUNING_DAY](DATA)


def add(
    values: dict[str, Any], day: str, arrivals: Arrivals, replayed: Callable[[], Outcome]
) -> None:
    """Replay once and keep the row."""
    began = CLOCK.monotonic()
    found = replayed()
    row = {
        "day": day,
        "hours": round(arrivals.seconds / 3_600.0, 2),
        **found.figures(),
        "wall_seconds": round(CLOCK.monotonic() - began, 1),
    }
    values["rows"].append(row)
    if day == SERIES_DAY:
        series = values.setdefault("series", {})
        series[found.policy] = [sum(each) for each in found.series.replicas][::5]
    save(values)
    print(
        f"{day:<24} {found.policy:<42} SLO {found.attainment:.4f}"
        f"  {found.replica_hours:7.1f} rh  ({row['wall_seconds']} s)",
        flush=True,
    )


def save(values: Mapping[str, Any]) -> None:
    """Write the results so far."""
    half = RESULTS.with_suffix(".part")
    half.write_text(json.dumps(values, indent=1) + "\n")
    half.replace(RESULTS)


if __name__ == "__main__":
    sys.exit(main())
