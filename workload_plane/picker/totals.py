"""What the picker has done since it started, as plain numbers; `exposition` makes metrics of them.

Prometheus' own counters take as long as half a pick.
"""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Totals:
    """Counts of one run."""

    asked: int = 0
    left_to_gateway: int = 0
    spilled: int = 0
    held: int = 0
    matched: int = 0
    unmatched: int = 0
    expired: int = 0
    quarantined: int = 0
    refused: int = 0
