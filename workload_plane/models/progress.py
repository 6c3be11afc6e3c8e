"""How far a base model has come, in the words that people read: PURE."""

from collections import deque
from dataclasses import dataclass, field

RATE_SECONDS = 10.0  # long enough to be steady, short enough to show that nothing comes
_GB = 1_000_000_000
_MB = 1_000_000


@dataclass(slots=True)
class Rate:
    """The bytes a second of the last few seconds."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now: float, bytes_done: int) -> None:
        """Note how many bytes there are now."""
        self.samples.append((now, bytes_done))
        while len(self.samples) > 2 and self.samples[0][0] < now - RATE_SECONDS:
            self.samples.popleft()

    def bytes_per_second(self, now: float) -> float:
        """Return the rate up to now, 0 while it is not known."""
        if not self.samples:
            return 0.0
        began, before = self.samples[0]
        seconds = now - began
        return (self.samples[-1][1] - before) / seconds if seconds > 0.0 else 0.0


def downloading(uri: str, bytes_done: int, bytes_total: int, bytes_per_second: float) -> str:
    """Return one line on a download under way."""
    return (
        f"downloading {amount(bytes_done, bytes_total)} of {amount(bytes_total, bytes_total)} "
        f"{unit(bytes_total)} ({speed(bytes_per_second)}) from {uri}"
    )


def speed(bytes_per_second: float) -> str:
    """Return a rate as people say it."""
    if bytes_per_second >= 10 * _MB:
        return f"{bytes_per_second / _MB:.0f} MB/s"
    return f"{bytes_per_second / _MB:.1f} MB/s"


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    return f"{amount(count, count)} {unit(count)}"


def amount(count: int, beside: int) -> str:
    """Return a number of bytes in the unit that fits `beside`."""
    return f"{count / (_GB if beside >= _GB else _MB):.1f}"


def unit(count: int) -> str:
    """Return the unit that fits a number of bytes."""
    return "GB" if count >= _GB else "MB"
