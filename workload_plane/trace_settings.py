"""Reads the section `tracing` of a plane's settings, with every fault.

`settings` calls it with the reader that collects the faults of the whole file.
"""

from dataclasses import fields

from skerry.plumbing.trace_target import SAMPLE_DEFAULT, TraceTarget
from workload_plane.relay_settings import Reader


def read_tracing(reader: Reader) -> TraceTarget | None:
    """Return where the plane's traces go, None without the section."""
    inner = reader.inner("tracing")
    if inner is None:
        return None
    known = [field.name for field in fields(TraceTarget)]
    for key in inner.values:
        if key not in known:
            inner.fault(str(key), f"is not a setting of tracing: {', '.join(known)}")
    sample = inner.values.get("sample", SAMPLE_DEFAULT)
    if not isinstance(sample, int | float) or isinstance(sample, bool):
        inner.fault("sample", "must be a number, 0..1")
        return None
    try:
        return TraceTarget(endpoint=inner.take("endpoint", str, ""), sample=float(sample))
    except ValueError as error:
        inner.fault("endpoint" if "endpoint" in str(error) else "sample", str(error))
        return None
