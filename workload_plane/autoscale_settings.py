"""Reads the section `autoscale` of a plane's settings, with every fault.

`settings` calls it with the reader that collects the faults of the whole file.
"""

from dataclasses import dataclass

from workload_plane.section_reader import Reader, names_of

PERIOD_SECONDS = 5.0
# Below, the loop asks its engines more often than they have anything new to tell; what is older
# than three rounds of the default says nothing about now.
PERIOD_SECONDS_MIN, PERIOD_SECONDS_MAX = 1.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaleSettings:
    """How often the plane's own loop decides."""

    period_seconds: float = PERIOD_SECONDS


def read_autoscale(reader: Reader) -> AutoscaleSettings:
    """Return the settings of the plane's own loop, the defaults without the section."""
    inner = reader.inner("autoscale")
    if inner is None:
        return AutoscaleSettings()
    names_of(AutoscaleSettings, inner, "autoscaling")
    period = inner.values.get("period_seconds", PERIOD_SECONDS)
    if not isinstance(period, int | float) or isinstance(period, bool):
        inner.fault("period_seconds", "must be a number of seconds")
        return AutoscaleSettings()
    if not PERIOD_SECONDS_MIN <= period <= PERIOD_SECONDS_MAX:
        told = f"must be {PERIOD_SECONDS_MIN:g}..{PERIOD_SECONDS_MAX:g} seconds, not {period}"
        inner.fault("period_seconds", told)
        return AutoscaleSettings()
    return AutoscaleSettings(period_seconds=float(period))
