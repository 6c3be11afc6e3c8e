"""Reads the section `tracing` of a plane's settings, with every fault.

`settings` calls it with the reader that collects the faults of the whole file.
"""

from skerry.plumbing.trace_target import SAMPLE_DEFAULT, TraceTarget
from workload_plane.section_reader import Reader, names_of


def read_tracing(reader: Reader) -> TraceTarget | None:
    """Return where the plane's traces go, None without the section."""
    inner = reader.inner("tracing")
    if inner is None:
        return None
    names_of(TraceTarget, inner, "tracing")
    sample = inner.values.get("sample", SAMPLE_DEFAULT)
    if not isinstance(sample, int | float) or isinstance(sample, bool):
        inner.fault("sample", "must be a number, 0..1")
        return None
    try:
        return TraceTarget(endpoint=inner.take("endpoint", str, ""), sample=float(sample))
    except ValueError as error:
        inner.fault("endpoint" if "endpoint" in str(error) else "sample", str(error))
        return None
