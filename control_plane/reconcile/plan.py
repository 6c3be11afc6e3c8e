"""plan(Snapshot) -> actions: what the store and the planes must be told. Pure.

The placement itself is decided by the scheduler (loop.py calls it when `fingerprint` moved); here
its envelopes arrive in the snapshot, and everything follows from them level by level.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from control_plane.reconcile.actions import (
    Action,
    PushDesired,
    RaiseGeneration,
    RecordReport,
    RemoveDeployment,
    SetCondition,
)
from control_plane.reconcile.envelopes import Key, grant_envelopes
from control_plane.reconcile.failover import is_held
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from skerry.fleet.coefficients import Coefficients, coefficients_of
from skerry.fleet.cordon import Cordons
from skerry.fleet.desired import (
    ENGINE_TECHNIQUES,
    FEATURES_NEEDED,
    NODE_CORDONS,
    Assignment,
    DesiredState,
    PeerPlane,
)
from skerry.fleet.digests import with_digests
from skerry.fleet.engine import is_of_first_release
from skerry.fleet.generation import Version
from skerry.fleet.names import SEPARATOR
from skerry.fleet.node import NodeCordon, digest_of_nodes
from skerry.fleet.observation import PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import Pool

Conditions = Mapping[str, PlaneCondition]
Measured = Mapping[str, tuple[Coefficients, ...]]  # by deployment


def plan_conditions(snapshot: Snapshot, conditions: Conditions) -> tuple[Action, ...]:
    """Record what planes report of themselves and what we judge of them."""
    actions: list[Action] = []
    for plane in snapshot.planes:
        report = plane.link.report
        if report is not None and _says_anything_new(report, plane):
            actions.append(RecordReport(report=report))
        judged = conditions[plane.name]
        if plane.condition is None or plane.condition.state is not judged.state:
            before = plane.condition.state if plane.condition else None
            actions.append(SetCondition(plane=plane.name, condition=judged, before=before))
    return tuple(actions)


def _says_anything_new(report: PlaneReport, plane: PlaneView) -> bool:
    """Compare only what is named: a pool that a report leaves out is kept as it was."""
    known = {shape.name: shape for shape in plane.shapes}
    return (
        report.identity != plane.identity
        or report.gateway != plane.gateway
        or any(known.get(shape.name) != shape for shape in report.pools)
        or bool(report.nodes and digest_of_nodes(report.nodes) != plane.nodes_digest)
    )


def plan_desired(snapshot: Snapshot, conditions: Conditions) -> tuple[Action, ...]:
    """Push to each plane what changed for it; the snapshot's envelopes are the last plan's.

    Planes that are lost are told again when they are back, with the state of that time.
    """
    granted = grant_envelopes(snapshot, conditions)
    measured = measured_costs(snapshot)
    actions: list[Action] = []
    for plane in snapshot.planes:
        if conditions[plane.name].state is PlaneState.LOST:
            continue
        stored = snapshot.desired_of(plane.name)
        generation = stored.version.generation if stored else 0
        held = plane.link.report.held.generation if plane.link.report else 0
        if held > generation:
            actions.append(RaiseGeneration(plane=plane.name, at_least=held))
            continue
        wanted = desired_state(snapshot, plane, granted, measured)
        if stored is None or not _same_content(stored, wanted):
            actions.append(PushDesired(desired=wanted, expected_generation=generation))
    return (*actions, *_removals(snapshot, conditions))


def measured_costs(snapshot: Snapshot) -> Measured:
    """Return what tokens were measured to cost, by deployment; those not measured are left out."""
    if not snapshot.profiles:
        return {}
    every = (demand.deployment for demand in snapshot.demands)
    found = ((one.name, coefficients_of(one.revision, snapshot.profiles)) for one in every)
    return {name: coefficients for name, coefficients in found if coefficients}


def desired_state(
    snapshot: Snapshot,
    plane: PlaneView,
    granted: Mapping[Key, Envelope],
    measured: Measured,
) -> DesiredState:
    """Return what a plane is to be told; the store gives it its version."""
    pools = {pool.name: pool for pool in snapshot.pools}
    node_cordons = _node_cordons(snapshot, plane)
    assignments = []
    for demand in sorted(snapshot.demands, key=lambda d: d.deployment.name):
        name = demand.deployment.name
        here = tuple(
            envelope
            for key, envelope in sorted(granted.items())
            if key[0] == name and pools[key[1]].plane.name == plane.name
        )
        kinds = {pools[envelope.pool].shape.accelerator for envelope in here}
        assignments.append(
            Assignment(
                deployment=with_digests(demand.deployment, snapshot.digests),
                envelopes=here,
                serving_planes=_serving_planes(name, granted, pools),
                tombstone=demand.deleting,
                coefficients=tuple(
                    one for one in measured.get(name, ()) if one.accelerator in kinds
                ),
            )
        )
    return DesiredState(
        plane=plane.name,
        version=Version(epoch=0, generation=0),
        assignments=tuple(assignments),
        peers=tuple(
            PeerPlane(
                plane=other.name,
                cloud=other.identity.cloud,
                region=other.identity.region,
                peer_address=other.gateway.peer,
                residency_zones=other.identity.residency_zones,
            )
            for other in sorted(snapshot.planes, key=lambda p: p.name)
            if other.name != plane.name and other.gateway.peer
        ),
        required_features=_features(assignments, node_cordons),
        node_cordons=node_cordons,
    )


def _features(
    assignments: Iterable[Assignment], node_cordons: tuple[NodeCordon, ...]
) -> tuple[str, ...]:
    """Return what a plane must understand to do as it is told, and no less."""
    needed = list(FEATURES_NEEDED)
    if node_cordons:
        needed.append(NODE_CORDONS)
    # Of a deployment that it runs nothing of, a plane need not understand the engine.
    here = (one.deployment.revision.engine for one in assignments if one.envelopes)
    if not all(map(is_of_first_release, here)):
        needed.append(ENGINE_TECHNIQUES)
    return tuple(needed)


def _node_cordons(snapshot: Snapshot, plane: PlaneView) -> tuple[NodeCordon, ...]:
    """Return the cordons of a plane's nodes, as far as the plane understands such.

    A plane of a release that does not would refuse its whole desired state; one that is not heard
    keeps what it was told.
    """
    report = plane.link.report
    if report is None:
        stored = snapshot.desired_of(plane.name)
        return stored.node_cordons if stored else ()
    if NODE_CORDONS not in report.features:
        return ()
    return tuple(
        NodeCordon(node=cordon.part.name.partition(SEPARATOR)[2], draining=cordon.draining)
        for cordon in Cordons(snapshot.cordons).of_nodes(plane.name)
    )


def _same_content(stored: DesiredState, wanted: DesiredState) -> bool:
    return replace(stored, version=wanted.version) == wanted


def _serving_planes(
    deployment: str, granted: Mapping[Key, Envelope], pools: Mapping[str, Pool]
) -> tuple[str, ...]:
    serving = {
        pools[pool].plane.name
        for (name, pool), envelope in granted.items()
        if name == deployment and envelope.ceiling > 0
    }
    return tuple(sorted(serving))


def _removals(snapshot: Snapshot, conditions: Conditions) -> tuple[RemoveDeployment, ...]:
    """Forget deployments that nobody runs any more and every plane in reach was told to end.

    A plane that is away keeps the deployment known: it must be told when it returns.
    """
    removals = []
    for demand in snapshot.demands:
        name = demand.deployment.name
        if demand.deleting and all(
            _has_ended(snapshot, plane, name, conditions) for plane in snapshot.planes
        ):
            removals.append(RemoveDeployment(deployment=name))
    return tuple(removals)


def _has_ended(
    snapshot: Snapshot, plane: PlaneView, deployment: str, conditions: Conditions
) -> bool:
    stored = snapshot.desired_of(plane.name)
    report = plane.link.report
    if stored is None:
        return True
    if report is None or conditions[plane.name].state is PlaneState.LOST:
        return False
    told = any(a.deployment.name == deployment and a.tombstone for a in stored.assignments)
    runs = any(replica.deployment == deployment for replica in report.replicas)
    return told and is_held(report, stored) and not runs
