"""How long replicas took from their start to their first answer, and what the next will take.

The control plane's store keeps the newest of each kind; `control_plane.reconcile.readiness` adds up
what is estimated here. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from skerry.fleet.engine import EngineName
from skerry.fleet.profile import Profile

# A replica that takes longer never comes up: planes give up after two hours. Longer is a fault of
# somebody's clock.
START_SECONDS_MAX = 86_400.0
# Of starts that a release wrote which did not tell them apart.
UNKNOWN_CONFIGURATION = "unknown"


class StartSource(StrEnum):
    """What an estimate rests on, the nearest first."""

    STARTS = "starts"  # of this very kind, as planes measured them
    PROFILE = "profile"  # the load time that `skerry profile` measured of the very same
    SIMILAR_STARTS = "similar-starts"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartKind:
    """What decides how long a start takes: the weights, the engine and where it loads them.

    `configuration` is the digest of the engine's.
    """

    base_model: str
    engine: EngineName
    accelerator: str
    configuration: str = UNKNOWN_CONFIGURATION


# Seconds of the starts that were measured, by their kind.
ColdStarts = Mapping[StartKind, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEstimate:
    """How long a start takes, None when nobody can tell, and the sentence that says from what."""

    seconds: float | None
    basis: str
    source: StartSource


def estimate(kind: StartKind, starts: ColdStarts, profile: Profile | None = None) -> StartEstimate:
    """Return the ninth decile of the starts of that kind, else what its profile says.

    With neither, that of the nearest kinds there are: another configuration, then the same base
    model and engine on other accelerators, then the same engine.
    """
    own = starts.get(kind, ())
    if own:
        what = f"of {kind.base_model} with {kind.engine} on {kind.accelerator}"
        return _measured(own, what, StartSource.STARTS)
    if profile is not None and profile.load_seconds > 0.0:
        return StartEstimate(
            seconds=profile.load_seconds,
            basis=f"load time of profile {profile.name}, measured"
            f" {profile.measured_at:%Y-%m-%d}: {as_text(profile.load_seconds)}",
            source=StartSource.PROFILE,
        )
    for near, what in _nearer(kind, starts):
        if near:
            return _measured(near, what, StartSource.SIMILAR_STARTS)
    unlike = f"no start like it was measured: {kind.base_model} with {kind.engine}"
    return StartEstimate(
        seconds=None, basis=f"{unlike} on {kind.accelerator}", source=StartSource.NONE
    )


def ninth_decile(seconds: Sequence[float]) -> float:
    """Return the smallest of some seconds that nine of ten do not exceed."""
    assert seconds, "there is none of nothing"
    return sorted(seconds)[-(-9 * len(seconds) // 10) - 1]


def as_text(seconds: float) -> str:
    """Return seconds for people: tenths only where they tell anything."""
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:,.0f} s"


def _nearer(kind: StartKind, starts: ColdStarts) -> Iterator[tuple[list[float], str]]:
    """Yield the starts of kinds less and less alike, with what they are."""
    same = f"of {kind.base_model} with {kind.engine}"
    yield (
        _all(starts, lambda k: replace(k, configuration=kind.configuration) == kind),
        f"{same} on {kind.accelerator}, none known to be of this configuration",
    )
    yield (
        _all(starts, lambda k: (k.base_model, k.engine) == (kind.base_model, kind.engine)),
        f"{same}, none of them on {kind.accelerator}",
    )
    yield (
        _all(starts, lambda k: k.engine is kind.engine),
        f"with {kind.engine}, none of them of {kind.base_model}",
    )


def _measured(measured: Sequence[float], what: str, source: StartSource) -> StartEstimate:
    seconds = ninth_decile(measured)
    count = f"{len(measured)} start{'' if len(measured) == 1 else 's'}"
    basis = f"p90 of {count} {what}: {as_text(seconds)}"
    return StartEstimate(seconds=seconds, basis=basis, source=source)


def _all(starts: ColdStarts, is_near: Callable[[StartKind], bool]) -> list[float]:
    return [seconds for kind in starts if is_near(kind) for seconds in starts[kind]]
