"""What every long-lived process tells of where it runs: its clock, its disk, its certificate.

Read when somebody asks for the page; a process shows them once it has called `show_host`.
"""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from skerry.plumbing import metrics
from skerry.plumbing.certificates import expiry_time
from skerry.plumbing.clock import Clock

_CLOCK = metrics.gauge(
    "skerry_clock_seconds",
    unit="seconds",
    help="The process's wall clock as Unix time, to be held against the time of the scrape.",
)
_FREE = metrics.gauge(
    "skerry_data_free_ratio",
    unit="ratio",
    help="Free share of the file system of the data directory. NaN where there is none or it cannot"
    " be read.",
)
_CERTIFICATE_LEFT = metrics.gauge(
    "skerry_certificate_left_seconds",
    unit="seconds",
    help="Until the process's own certificate of mTLS ends, negative once it has. NaN where there"
    " is none or it cannot be read.",
)


def show_host(clock: Clock, directory: Path | None, certificate: Path | None) -> None:
    """Show clock, disk and certificate from now on, each as it is when it is asked for."""

    def free() -> float:
        usage = shutil.disk_usage(_known(directory))
        return usage.free / usage.total

    _CLOCK.set_function(lambda: clock.now().timestamp())
    _FREE.set_function(lambda: _or_nan(free))
    _CERTIFICATE_LEFT.set_function(lambda: certificate_left_seconds(clock, certificate))


def certificate_left_seconds(clock: Clock, certificate: Path | None) -> float:
    """Return how long a certificate lasts, NaN where there is none or it cannot be read."""

    def left() -> float:
        return (expiry_time(_known(certificate)) - clock.now()).total_seconds()

    return _or_nan(left)


def _known(path: Path | None) -> Path:
    if path is None:
        raise FileNotFoundError("this process has none")
    return path


def _or_nan(read: Callable[[], float]) -> float:
    """Return what is read; what cannot be read must not cost the whole page."""
    try:
        return read()
    except (OSError, ValueError, ZeroDivisionError):
        return math.nan
