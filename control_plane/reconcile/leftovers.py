"""What planes run that they were told to end before: of removed deployments, or on other pools.

A plane that lost its newest state starts what the one before it wants, and then refuses every state
that does not name it. `plan.py` names what was removed to that plane, `envelopes.py` the pools;
`recovery/assess.py` leaves what is known to go out of what nobody can explain. Pure.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from control_plane.reconcile.snapshot import PlaneView, Removed, Snapshot
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import Assignment
from skerry.fleet.observation import ReplicaState

By = Mapping[str, tuple[Removed, ...]]  # by plane


def leftovers(snapshot: Snapshot) -> By:
    """Return by plane what runs there of deployments that were removed; most planes have none.

    Only what a removal is kept of, at a revision that it had then, and never where the plane holds
    more than the database knows: to forget something is no instruction to end it.
    """
    removed = _nobodys(snapshot)
    if not removed:
        return {}
    found: dict[str, tuple[Removed, ...]] = {}
    for plane in snapshot.planes:
        if here := _here(snapshot, plane, removed):
            found[plane.name] = here
    return found


def described(snapshot: Snapshot, plane: str) -> tuple[str, ...]:
    """Return in words what is left at a plane, for people."""
    view = snapshot.plane(plane)
    report = view.link.report if view is not None else None
    told = []
    for one in leftovers(snapshot).get(plane, ()):
        name = one.deployment.name
        running = sum(replica.deployment == name for replica in report.replicas) if report else 0
        told.append(
            f"it still runs {running} of {name}, which was removed at"
            f" {one.removed_at:%Y-%m-%d %H:%M:%S} UTC: it lost newer states of its own, and is told"
            " to end that"
        )
    return tuple(told)


def tombstones(snapshot: Snapshot) -> Mapping[str, tuple[Assignment, ...]]:
    """Return by plane the tombstones of what is left there; who is not heard keeps what it has.

    A served name that is another's by now is left to that one.
    """
    found = {
        plane: tuple(_tombstone(one.deployment, snapshot) for one in here)
        for plane, here in leftovers(snapshot).items()
    }
    removed = _nobodys(snapshot)
    silent = (plane for plane in snapshot.planes if plane.link.report is None)
    for plane in silent if removed else ():
        stored = snapshot.desired_of(plane.name)
        kept = tuple(
            one
            for one in (stored.assignments if stored else ())
            if one.tombstone and one.deployment.name in removed
        )
        if kept:
            found[plane.name] = kept
    return found


def strays(snapshot: Snapshot, known: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
    """Return the (deployment, pool) that run though they are not `known`: neither told nor wanted.

    With how many of them serve or start.

    Of wanted deployments at revisions they had, and never where the plane holds more than the
    database knows.
    """
    newest = {
        one.deployment.name: max(one.asked_revision, one.deployment.revision.number)
        for one in snapshot.demands
    }
    found: dict[tuple[str, str], int] = {}
    for plane in snapshot.planes:
        report = plane.link.report
        if report is None or not _knows_no_more(snapshot, plane):
            continue
        later: set[tuple[str, str]] = set()
        for one in report.replicas:
            key = one.deployment, one.pool
            if key in known or one.state is ReplicaState.FAILED or key[0] not in newest:
                continue
            if one.revision > newest[key[0]]:
                later.add(key)
            found[key] = found.get(key, 0) + (one.state is not ReplicaState.DRAINING)
        for key in later:
            found.pop(key, None)
    return found


def _knows_no_more(snapshot: Snapshot, plane: PlaneView) -> bool:
    """Say whether a plane that is heard has seen nothing newer than what it was told last."""
    report, stored = plane.link.report, snapshot.desired_of(plane.name)
    if report is None or stored is None:
        return False
    return report.generation_seen <= stored.version.generation


def _nobodys(snapshot: Snapshot) -> Mapping[str, Removed]:
    wanted = {demand.deployment.name for demand in snapshot.demands} if snapshot.removed else ()
    return {
        one.deployment.name: one for one in snapshot.removed if one.deployment.name not in wanted
    }


def _here(
    snapshot: Snapshot, plane: PlaneView, removed: Mapping[str, Removed]
) -> tuple[Removed, ...]:
    report = plane.link.report
    if report is None or not _knows_no_more(snapshot, plane):
        return ()
    revisions: dict[str, int] = {}
    for replica in report.replicas:
        if replica.deployment in removed and replica.state is not ReplicaState.FAILED:
            highest = max(revisions.get(replica.deployment, 0), replica.revision)
            revisions[replica.deployment] = highest
    return tuple(
        removed[name]
        for name, highest in sorted(revisions.items())
        # A higher one is of a later life of the name, which this database does not remember.
        if highest <= removed[name].last_revision
    )


def _tombstone(deployment: Deployment, snapshot: Snapshot) -> Assignment:
    revision = deployment.revision
    served = revision.base_model.served_name
    demands: Iterable[Deployment] = (demand.deployment for demand in snapshot.demands)
    if any(one.revision.base_model.served_name == served for one in demands):
        # No served name begins with a space, so nobody asks for this one.
        model = replace(revision.base_model, served_name=f" {deployment.name}")
        deployment = replace(deployment, revision=replace(revision, base_model=model))
    return Assignment(deployment=deployment, tombstone=True)
