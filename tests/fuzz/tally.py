"""What came of the inputs: how often each answer, how long, and what must not be.

A finding is an answer that nobody should get (INTERNAL, UNKNOWN, a 500), one that shows insides, a
traceback in a log, or a process that is gone. With its listener and number it can be sent again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

FINDINGS_KEPT = 50  # of each listener; the first says what is to be mended
# What no message to a caller has in it.
INSIDES = re.compile(r"Traceback|sqlalchemy|\.py\b.{0,3}line|object at 0x|site-packages")
P99 = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an input was answered; `finding` says what of it must not be, "" for nothing."""

    label: str
    finding: str = ""


@dataclass(slots=True, kw_only=True)
class Tally:
    """The outcomes at one listener; `seconds` is how long it took to send all of them."""

    listener: str
    inputs: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    found: int = 0
    seconds: float = 0.0
    witnesses: dict[str, "Witnessed"] = field(default_factory=dict)

    def note(self, number: int, outcome: Outcome) -> None:
        """Count an outcome."""
        self.inputs += 1
        self.labels[outcome.label] = self.labels.get(outcome.label, 0) + 1
        if outcome.finding:
            self.add(f"{self.listener}:{number}: {outcome.finding}")

    def add(self, finding: str) -> None:
        """Note what must not be."""
        self.found += 1
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """How another caller was served meanwhile; `failed` were answered with an error, or late."""

    calls: int
    failed: int
    p50_ms: float
    p99_ms: float


def witnessed(milliseconds: Sequence[float], failed: int) -> Witnessed:
    """Return the shares of these answers."""
    ordered = sorted(milliseconds)
    return Witnessed(
        calls=len(ordered) + failed,
        failed=failed,
        p50_ms=round(_share(ordered, 0.5), 1),
        p99_ms=round(_share(ordered, P99), 1),
    )


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
