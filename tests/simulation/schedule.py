"""What happens to a simulated world, written down: faults and operators with their times.

A seed makes a schedule as it goes, by chances.py; one that was kept replays whatever becomes of
that. How long messages, starts and queries take is of the world's noise, a stream of chances for
each part of it: what one part does otherwise moves nothing of another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from tests.simulation.fleets import FLEETS, LOADED

FAULTS_SECONDS = (18.0, 36.0)
LONG_FAULTS_SECONDS = 120.0
LONG_EVERY = 50  # one seed in so many breaks things for longer
LOADED_EVERY, LOADED_REST = 10, 9  # one seed in so many scales by load
LOADED_SECONDS = (45.0, 75.0)
RESTS_EVERY = 20  # of loaded ones, which end in 9: the first half of so many seeds
EXACT_EVERY = 25  # in so many seeds one has the exact solver, which costs as much as the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a world begins, and for how many seconds things happen to it; `noise` is a seed."""

    fleet: str
    noise: int
    seconds: float
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One fault, or one change of an operator's: when, what, and the particulars that it takes."""

    at: float
    what: str
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All that happens to one world, in the order of time."""

    setting: Setting
    happenings: tuple[Happening, ...]


def setting_of(seed: int, *, loaded: bool = False) -> Setting:
    """Return how a seed's world begins; with `loaded`, one that scales by load."""
    random = Random(f"{seed}/setting")
    if loaded or seed % LOADED_EVERY == LOADED_REST:
        fleet, seconds = random.choice(sorted(LOADED)), random.uniform(*LOADED_SECONDS)
        return Setting(fleet=fleet, noise=seed, seconds=round(seconds, 3))
    seconds = round(random.uniform(*FAULTS_SECONDS), 3)
    return Setting(
        fleet=random.choice(sorted(FLEETS)),
        noise=seed,
        seconds=LONG_FAULTS_SECONDS if seed % LONG_EVERY == 0 else seconds,
        exact=seed % EXACT_EVERY == 0,
    )


def setting_rests(setting: Setting) -> bool:
    """Say whether loads stay for a while after order is back; it costs as much as all before."""
    return setting.noise % RESTS_EVERY < RESTS_EVERY / 2


def to_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as it is kept."""
    happenings = [[one.at, one.what, dict(one.told)] for one in schedule.happenings]
    return {"setting": asdict(schedule.setting), "happenings": happenings}


def from_json(kept: Mapping[str, Any]) -> Schedule:
    """Return a schedule that was kept; raises KeyError or TypeError for what is none."""
    happenings: Sequence[tuple[float, str, Mapping[str, Any]]] = kept["happenings"]
    return Schedule(
        setting=Setting(**kept["setting"]),
        happenings=tuple(Happening(at=at, what=what, told=told) for at, what, told in happenings),
    )
