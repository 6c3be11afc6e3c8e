"""Pools that planes do not report any more, and since when: absence takes its time to count. Pure.

`sight.py` folds every look into it; `supply.py` bars what was missing for a lease's time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.fleet.observation import PlaneReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Since when pools are missing, by plane and pool; and when was looked, on the same clock."""

    since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    now: float = 0.0

    def of(self, plane: str) -> tuple[tuple[str, float], ...]:
        """Return a plane's missing pools and for how many seconds each."""
        return tuple((pool, self.now - at) for pool, at in self.since.get(plane, {}).items())


def look_for(
    before: Missing,
    known: Mapping[str, tuple[str, ...]],
    reports: Mapping[str, PlaneReport],
    now: float,
) -> Missing:
    """Return what is missing of the known pools, by the newest reports; times in seconds.

    A report without any pool says nothing of them: an empty list is never obeyed.
    """
    since: dict[str, Mapping[str, float]] = {}
    for plane, pools in known.items():
        report = reports.get(plane)
        if report is None or not report.pools:
            continue
        told = {shape.name for shape in report.pools}
        held = before.since.get(plane, {})
        if lacking := {pool: held.get(pool, now) for pool in pools if pool not in told}:
            since[plane] = lacking
    return Missing(since=since, now=now)
