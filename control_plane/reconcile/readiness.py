"""When the last replica that a plan starts is ready, deployment by deployment. Pure.

What is not ready of what is placed has to start; how long that takes is told by the starts that
were measured, or else by profiles, one after another where a plane does them so, and after those
who hold the room.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from scheduler.plan import PlacementPlan
from skerry.fleet.cold_start import (
    ColdStarts,
    StartEstimate,
    StartKind,
    StartSource,
    as_text,
    estimate,
)
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.observation import Observation, ReplicaState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool
from skerry.fleet.profile import Profile, Profiles, configuration_digest, profile_key

Key = tuple[str, str]  # deployment, pool

NAMES_SHOWN_MAX = 3  # of those that have to leave first; a sentence, not a listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """A plan, and the fleet that it would change.

    `running` are the deployments as they are now, `wanted` as the plan has them; `observations` are
    of the planes that are heard, by name.
    """

    plan: PlacementPlan
    before: tuple[Placement, ...]
    running: Mapping[str, Deployment]
    wanted: Mapping[str, Deployment]
    pools: Mapping[str, Pool]
    observations: Mapping[str, Observation]
    starts: ColdStarts
    profiles: Profiles = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """When a deployment is ready: None seconds when nobody can tell, and why so.

    `source` is that of the start which decides.
    """

    seconds: float | None
    basis: str
    source: StartSource


@dataclass(slots=True, kw_only=True)
class _Seen:
    """Replicas of a deployment on a pool; `old` are live ones of another revision."""

    ready: int = 0
    starting: int = 0
    failed: int = 0
    old: int = 0
    draining: int = 0

    @property
    def held(self) -> int:
        return self.ready + self.starting + self.old + self.draining


@dataclass(slots=True, kw_only=True)
class _Room:
    """The accelerators of a pool that nobody holds, and those who are to hold fewer there."""

    accelerator: str
    free: int
    leaving: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What has to start of a deployment on a pool; `leaving` hold the room that it waits for."""

    pool: str
    kind: StartKind
    profile: Profile | None
    missing: int
    seen: _Seen
    leaving: tuple[str, ...]

    @property
    def asks(self) -> tuple[StartKind, str]:
        """Return what its estimate depends on, the profile by its name."""
        return self.kind, self.profile.name if self.profile else ""

    @property
    def rounds(self) -> int:
        """Return how often one waits for another: a new revision comes one replica at a time."""
        return max(1, min(self.seen.old, self.missing))


def expect(prospect: Prospect) -> Mapping[str, Readiness]:
    """Return when every deployment that starts replicas is ready."""
    starts = _starts(prospect)
    asked = {start.asks: start for mine in starts.values() for start in mine}
    estimates = {
        key: estimate(start.kind, prospect.starts, start.profile) for key, start in asked.items()
    }
    found: dict[str, Readiness] = {}
    waiting = dict(starts)
    while waiting:
        settled = [
            name
            for name, mine in waiting.items()
            if not any(other in waiting for start in mine for other in start.leaving)
        ]
        # Those left wait for one another in a circle: of none it can be told.
        for name in settled or list(waiting):
            found[name] = _readiness(waiting.pop(name), estimates, found, is_circle=not settled)
    return found


def _starts(prospect: Prospect) -> dict[str, list[_Start]]:
    seen = _seen(prospect)
    missing: dict[Key, int] = {}
    for placement in prospect.plan.placements:
        key = (placement.deployment, placement.pool)
        ready = seen[key].ready if key in seen else 0
        if placement.count > ready and key[0] in prospect.wanted and key[1] in prospect.pools:
            missing[key] = placement.count - ready
    rooms = _rooms(prospect, seen, {pool for _, pool in missing})
    starts: dict[str, list[_Start]] = defaultdict(list)
    # As the envelopes are granted: growth takes what is free, in the order of names.
    for (name, pool), count in sorted(missing.items()):
        room, there = rooms[pool], seen.get((name, pool), _Seen())
        revision, accelerator = prospect.wanted[name].revision, room.accelerator
        needed = max(0, count - there.starting - there.old) * _size(revision, accelerator)
        waits = needed > room.free
        room.free -= 0 if waits else needed
        starts[name].append(
            _Start(
                pool=pool,
                kind=StartKind(
                    base_model=revision.base_model.uri,
                    engine=revision.engine.name,
                    configuration=configuration_digest(revision.engine),
                    accelerator=accelerator,
                ),
                profile=_profile(prospect.profiles, revision, accelerator),
                missing=count,
                seen=there,
                leaving=tuple(other for other in room.leaving if other != name) if waits else (),
            )
        )
    return starts


def _seen(prospect: Prospect) -> Mapping[Key, _Seen]:
    """Return the replicas there are; on planes that are not heard those placed are taken to run."""
    changed = {
        name
        for name, wanted in prospect.wanted.items()
        if name in prospect.running and prospect.running[name].revision != wanted.revision
    }
    numbers = {name: wanted.revision.number for name, wanted in prospect.wanted.items()}
    seen: defaultdict[Key, _Seen] = defaultdict(_Seen)
    for observation in prospect.observations.values():
        for replica in observation.report.replicas:
            name = replica.deployment
            counts = seen[name, replica.pool]
            is_new = replica.revision == numbers.get(name) and name not in changed
            match replica.state:
                case ReplicaState.DRAINING:
                    counts.draining += 1
                case ReplicaState.FAILED:
                    counts.failed += is_new
                case ReplicaState.READY if is_new:
                    counts.ready += 1
                case ReplicaState.STARTING if is_new:
                    counts.starting += 1
                case _:
                    counts.old += 1
    for placement in prospect.before:
        pool = prospect.pools.get(placement.pool)
        if pool is None or pool.plane.name in prospect.observations:
            continue
        counts = seen[placement.deployment, placement.pool]
        if placement.deployment in changed:
            counts.old = placement.count
        else:
            counts.ready = placement.count
    return seen


def _rooms(prospect: Prospect, seen: Mapping[Key, _Seen], pools: Set[str]) -> Mapping[str, _Room]:
    """Return of these pools what nobody holds, and who holds more there than it is to."""
    rooms: dict[str, _Room] = {}
    for name in pools:
        shape = prospect.pools[name].shape
        rooms[name] = _Room(accelerator=shape.accelerator, free=shape.accelerators)
    after = {(p.deployment, p.pool): p.count for p in prospect.plan.placements if p.pool in rooms}
    for key in sorted(key for key in seen if key[1] in rooms):
        room, held = rooms[key[1]], seen[key].held
        deployment = prospect.running.get(key[0]) or prospect.wanted.get(key[0])
        room.free -= held * (_size(deployment.revision, room.accelerator) if deployment else 1)
        if held > after.get(key, 0):
            room.leaving.append(key[0])
    return rooms


def _profile(profiles: Profiles, revision: Revision, accelerator: str) -> Profile | None:
    shape = revision.shape_on(accelerator)
    return profiles.get(profile_key(revision, shape)) if shape and profiles else None


def _size(revision: Revision, accelerator: str) -> int:
    shape = revision.shape_on(accelerator)
    return shape.accelerators if shape else 1


def _readiness(
    starts: Iterable[_Start],
    estimates: Mapping[tuple[StartKind, str], StartEstimate],
    known: Mapping[str, Readiness],
    *,
    is_circle: bool,
) -> Readiness:
    """Return when the last of a deployment's pools is ready; one that nobody can tell decides."""
    found = [_on_pool(start, estimates[start.asks], known, is_circle) for start in starts]
    unknown = [one for one in found if one.seconds is None]
    return unknown[0] if unknown else max(found, key=lambda one: one.seconds or 0.0)


def _on_pool(
    start: _Start, measured: StartEstimate, known: Mapping[str, Readiness], is_circle: bool
) -> Readiness:
    parts = [measured.basis]
    seconds = measured.seconds
    if seconds is not None and start.rounds > 1:
        seconds *= start.rounds
        parts.append(f"{start.rounds} one after another on {start.pool}: {as_text(seconds)}")
    if start.leaving:
        waits = None if is_circle else _wait(start.leaving, known)
        seconds = None if seconds is None or waits is None else seconds + waits
        parts.append(f"{start.pool} has first to be freed by {_names(start.leaving)}{_when(waits)}")
    if start.seen.starting:
        parts.append(f"{start.seen.starting} of {start.missing} on {start.pool} start already")
    if start.seen.failed:
        parts.append(f"{start.seen.failed} failed on {start.pool} and will be started again")
    return Readiness(seconds=seconds, basis="; ".join(parts), source=measured.source)


def _wait(leaving: Iterable[str], known: Mapping[str, Readiness]) -> float | None:
    """Return when those who leave are ready elsewhere; who starts nothing may go at once."""
    seconds = [known[name].seconds for name in leaving if name in known]
    if any(one is None for one in seconds):
        return None
    return max((one for one in seconds if one is not None), default=0.0)


def _when(waits: float | None) -> str:
    if waits is None:
        return ", and nobody can tell when"
    return f", once ready elsewhere in {as_text(waits)}" if waits else ""


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    more = len(names) - NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
