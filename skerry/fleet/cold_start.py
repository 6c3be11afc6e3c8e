"""How long replicas took from their start to their first answer, and what the next will take.

The control plane's store keeps the newest of each kind; `control_plane.reconcile.readiness` adds up
what is estimated here. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from skerry.fleet.engine import EngineName

# A replica that takes longer never comes up: planes give up after 15 minutes. Longer is a fault of
# somebody's clock.
START_SECONDS_MAX = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartKind:
    """What decides how long a start takes: the weights, the engine and where it loads them."""

    base_model: str
    engine: EngineName
    accelerator: str


# Seconds of the starts that were measured, by their kind.
ColdStarts = Mapping[StartKind, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEstimate:
    """How long a start takes, None when nobody can tell, and the sentence that says from what."""

    seconds: float | None
    basis: str


def estimate(kind: StartKind, starts: ColdStarts) -> StartEstimate:
    """Return the ninth decile of the starts of that kind, or of the nearest kinds there are.

    Nearest are those of the same base model and engine on other accelerators, then those of the
    same engine.
    """
    same = f"of {kind.base_model} with {kind.engine}"
    nearer = (
        (starts.get(kind, ()), f"{same} on {kind.accelerator}"),
        (
            _all(starts, lambda k: (k.base_model, k.engine) == (kind.base_model, kind.engine)),
            f"{same}, none of them on {kind.accelerator}",
        ),
        (
            _all(starts, lambda k: k.engine is kind.engine),
            f"with {kind.engine}, none of them of {kind.base_model}",
        ),
    )
    for measured, what in nearer:
        if measured:
            seconds = ninth_decile(measured)
            count = f"{len(measured)} start{'' if len(measured) == 1 else 's'}"
            return StartEstimate(
                seconds=seconds, basis=f"p90 of {count} {what}: {as_text(seconds)}"
            )
    unlike = f"no start like it was measured: {kind.base_model} with {kind.engine}"
    return StartEstimate(seconds=None, basis=f"{unlike} on {kind.accelerator}")


def ninth_decile(seconds: Sequence[float]) -> float:
    """Return the smallest of some seconds that nine of ten do not exceed."""
    assert seconds, "there is none of nothing"
    return sorted(seconds)[-(-9 * len(seconds) // 10) - 1]


def as_text(seconds: float) -> str:
    """Return seconds for people: tenths only where they tell anything."""
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:,.0f} s"


def _all(starts: ColdStarts, is_near: Callable[[StartKind], bool]) -> list[float]:
    return [seconds for kind in starts if is_near(kind) for seconds in starts[kind]]
