"""Everything a decision needs from the store, as of one read transaction.

`renew` reads again only what the change log says has moved since.
"""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.api_keys import StoredKey, list_api_keys
from control_plane.store.catalogue import (
    PROFILES,
    REGIONS,
    REGISTERED_MODELS,
    RESERVATIONS,
    list_entries,
    renew_entries,
)
from control_plane.store.changes import last_sequence, oldest_sequence
from control_plane.store.columns import driver_rows
from control_plane.store.cordons import list_cordons
from control_plane.store.deployments import list_deployments
from control_plane.store.desired import list_desired, renew_desired
from control_plane.store.placements import last_decision, list_placements
from control_plane.store.planes import list_planes
from control_plane.store.pools import list_pools
from control_plane.store.prices import Price, list_prices
from control_plane.store.projects import list_projects
from control_plane.store.removals import list_removals
from control_plane.store.rollouts import all_revisions_of, list_rollouts, revisions_of
from control_plane.store.scalings import list_scalings
from control_plane.store.terms_in_force import TermsInForce
from control_plane.store.values import (
    Decision,
    StoredDeployment,
    StoredDesired,
    StoredEntry,
    StoredPlane,
    StoredPool,
    StoredRemoval,
)
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.catalogue import Region, RegisteredModel, Reservation
from skerry.fleet.cordon import Cordon
from skerry.fleet.deployment import Revision
from skerry.fleet.placement import Placement
from skerry.fleet.profile import Profile
from skerry.fleet.project import Project
from skerry.fleet.rollout import Rollout, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlogged:
    """When that was last written which is written without a change in the log.

    New reasons for the same placements come with a decision, new evidence with its plane's time.
    """

    decisions: Sequence[tuple[Any, ...]]
    planes: frozenset[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """The revisions that rollouts speak of beside the present ones: which, and what they are."""

    wanted: frozenset[tuple[str, int]]
    revisions: Mapping[str, Mapping[int, Revision]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSnapshot:
    """The store at change `sequence`; `desired` is by plane, `prices` by pool.

    `pools` have the terms that were set; `pools_at` has those that hold at a moment.
    """

    deployments: tuple[StoredDeployment, ...]
    pools: tuple[StoredPool, ...]
    planes: tuple[StoredPlane, ...]
    placements: tuple[Placement, ...]
    desired: Mapping[str, StoredDesired]
    sequence: int
    decision: Decision | None
    prices: Mapping[str, tuple[Price, ...]]
    reservations: tuple[Reservation, ...]
    cordons: tuple[Cordon, ...]
    regions: tuple[Region, ...]
    profiles: tuple[StoredEntry[Profile], ...]
    base_models: tuple[RegisteredModel, ...]
    rollouts: tuple[Rollout, ...]
    removals: tuple[StoredRemoval, ...] = ()
    scalings: tuple[Scaled, ...] = ()
    api_keys: tuple[StoredKey, ...] = ()
    projects: tuple[Project, ...] = ()
    rolled: Rolled
    unlogged: Unlogged
    terms: TermsInForce = field(default_factory=TermsInForce, compare=False, repr=False)

    def pools_at(self, now: datetime) -> tuple[StoredPool, ...]:
        """Return the pools with what prices by time, reservations and cordons make of them."""
        if not (self.prices or self.reservations or self.cordons):
            return self.pools  # of thousands none need be looked at
        return self.terms.at(now, self.pools, self.prices, self.reservations, self.cordons)


_PARTS: Mapping[str, Callable[[Session], Any]] = {
    "deployments": list_deployments,
    # Sorted here: PostgreSQL's collation may order `-` unlike Python does.
    "pools": lambda s: tuple(sorted(list_pools(s), key=lambda one: one.pool.name)),
    "planes": lambda s: tuple(sorted(list_planes(s), key=lambda one: one.identity.name)),
    "placements": list_placements,
    "desired": list_desired,
    "decision": last_decision,
    "prices": list_prices,
    "reservations": lambda s: tuple(entry.value for entry in list_entries(s, RESERVATIONS)),
    "cordons": list_cordons,
    "regions": lambda s: tuple(entry.value for entry in list_entries(s, REGIONS)),
    "profiles": lambda s: list_entries(s, PROFILES),
    "base_models": lambda s: tuple(entry.value for entry in list_entries(s, REGISTERED_MODELS)),
    "rollouts": list_rollouts,
    "removals": list_removals,
    "scalings": list_scalings,
    "api_keys": list_api_keys,
    "projects": list_projects,
}
_PLANE = "plane."  # the kinds of changes that are of one plane, which their subject names
# Names in one query; where more were written, all planes are read.
RENEWED_PLANES_MAX = 1_000
_RESTING = frozenset(
    {"profiles", "base_models", "rollouts", "removals", "scalings", "api_keys", "projects"}
)
# What a change may have written, by its kind or the first word of it; all parts by one not named.
_WRITTEN: Mapping[str, frozenset[str]] = {
    "accelerator-kind": frozenset(),
    "api-key": frozenset({"api_keys"}),
    "base-model": frozenset({"base_models"}),
    "changes": frozenset(),
    "cloud": frozenset(),
    "deployment": frozenset({"deployments"}),
    "deployment.removed": frozenset(
        {"deployments", "placements", "rollouts", "removals", "scalings"}
    ),
    "desired": frozenset({"desired"}),
    "domain": frozenset({"cordons"}),
    "fleet": frozenset(),
    "leadership": frozenset(),
    "placements": frozenset({"placements"}),
    "plan": frozenset({"placements", "decision"}),
    "plane": frozenset({"planes", "pools"}),
    "pool": frozenset({"pools"}),
    "price": frozenset({"prices"}),
    "profile": frozenset({"profiles"}),
    "project": frozenset({"projects"}),
    "region": frozenset({"regions"}),
    "reservation": frozenset({"reservations"}),
    "rollout": frozenset({"rollouts"}),
    "scaling": frozenset({"scalings"}),
}


def load(session: Session, held: StoreSnapshot | None = None) -> StoreSnapshot:
    """Return the whole store; run it in one read transaction.

    All of it is read, but for desired states that are what `held` has by version and digest: those
    of a thousand planes are megabytes; and for what is long and seldom moves, profiles and base
    models, while no change says that it did.
    """
    sequence = last_sequence(session)
    still: dict[str, Any] = {}
    if held is not None:
        resting = _RESTING - _moved(session, held.sequence, sequence)
        still = {name: getattr(held, name) for name in resting}
    parts = {name: _read(session, name, held) for name in _PARTS.keys() - still.keys()}
    found = parts | still
    rolled = _rolled(session, found, held)
    return StoreSnapshot(sequence=sequence, unlogged=_unlogged(session), rolled=rolled, **found)


def renew(session: Session, held: StoreSnapshot | None) -> StoreSnapshot:
    """Return the whole store as `load` does; parts that did not move are those of `held`.

    It is `held` itself when nothing moved, and a deployment that did not move is the one of
    `held`. Run it in one read transaction.
    """
    if held is None:
        return load(session)
    sequence, unlogged = last_sequence(session), _unlogged(session)
    moved: set[str] = set()
    planes = {row[0] for row in unlogged.planes - held.unlogged.planes}
    if sequence != held.sequence:
        moved |= _moved(session, held.sequence, sequence, but=_PLANE)
        planes |= _planes_of(session, held.sequence)
    if unlogged.decisions != held.unlogged.decisions:
        moved |= {"placements", "decision"}
    if len(planes) > RENEWED_PLANES_MAX:
        moved |= {"planes", "pools"}
    if not moved and (sequence, unlogged) == (held.sequence, held.unlogged):
        return held
    parts: dict[str, Any] = _renewed_planes(session, held, planes) if planes else {}
    parts |= {name: _read(session, name, held) for name in moved}
    if "deployments" in parts:
        known = {one.deployment.name: one for one in held.deployments}
        found = ((known.get(one.deployment.name), one) for one in parts["deployments"])
        parts["deployments"] = tuple(before if before == one else one for before, one in found)
    both = {"deployments": held.deployments, "rollouts": held.rollouts} | parts
    rolled = _rolled(session, both, held)
    return replace(held, sequence=sequence, unlogged=unlogged, rolled=rolled, **parts)


def _renewed_planes(
    session: Session, held: StoreSnapshot, names: Collection[str]
) -> dict[str, Any]:
    """Return the planes and pools of `held` with those of some planes read again.

    Of thousands of planes that come back some are written every second, and to read all of them
    each time took a third of a core.
    """
    if len(names) > RENEWED_PLANES_MAX:
        return {}  # all are read
    planes = {one.identity.name: one for one in held.planes}
    planes |= {one.identity.name: one for one in list_planes(session, names)}
    pools = {one.pool.name: one for one in held.pools if one.pool.plane.name not in names}
    pools |= {one.pool.name: one for one in list_pools(session, names)}
    return {
        "planes": tuple(planes[name] for name in sorted(planes)),
        "pools": tuple(pools[name] for name in sorted(pools)),
    }


def _planes_of(session: Session, after: int) -> set[str]:
    """Return the planes that changes after a number are about."""
    table = tables.changes
    of_planes = table.c.kind.startswith(_PLANE) & (table.c.sequence > after)
    subjects = session.execute(select(table.c.subject).distinct().where(of_planes)).scalars()
    return {subject.rpartition("/")[2] for subject in subjects}


def _rolled(session: Session, found: Mapping[str, Any], held: StoreSnapshot | None) -> Rolled:
    """Return the revisions beside the present ones; those of `held` while they are the same."""
    present = {d.deployment.name: d.deployment.revision.number for d in found["deployments"]}
    wanted: set[tuple[str, int]] = set()
    for rollout in found["rollouts"]:
        name = rollout.deployment
        numbers = rollout.revisions
        if rollout.stage is Stage.COMPLETE and rollout.revision == present.get(name):
            continue
        wanted.update((name, number) for number in numbers)
    without = present.keys() - {rollout.deployment for rollout in found["rollouts"]}
    # Of an older release, or just applied: those before the present one may be what serves.
    several = [name for name in without if present[name] > 1]
    if several:
        wanted.update(all_revisions_of(session, several))
    if held is not None and held.rolled.wanted == wanted:
        return held.rolled
    return Rolled(wanted=frozenset(wanted), revisions=revisions_of(session, wanted))


def _read(session: Session, part: str, held: StoreSnapshot | None) -> Any:
    if part == "desired" and held is not None:
        return renew_desired(session, held.desired)
    if part == "profiles" and held is not None:
        return renew_entries(session, PROFILES, held.profiles)
    return _PARTS[part](session)


def _moved(session: Session, after: int, newest: int, but: str = "") -> set[str]:
    """Return the parts that the changes after a number may have written, but for some kinds."""
    if newest < after or after < oldest_sequence(session) - 1:
        return set(_PARTS)  # another database, or changes that were forgotten
    table = tables.changes
    kinds = session.execute(select(table.c.kind).distinct().where(table.c.sequence > after))
    found = (kind for kind in kinds.scalars() if not but or not kind.startswith(but))
    return set().union(*map(_written, found))


def _written(kind: str) -> Set[str]:
    return _WRITTEN.get(kind, _WRITTEN.get(kind.partition(".")[0], _PARTS.keys()))


def _unlogged(session: Session) -> Unlogged:
    decisions, planes = tables.decisions, tables.planes
    return Unlogged(
        decisions=driver_rows(session, select(decisions.c.epoch, decisions.c.decided_at)),
        planes=frozenset(driver_rows(session, select(planes.c.name, planes.c.updated_at))),
    )
