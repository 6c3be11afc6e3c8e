"""plan(Snapshot) -> actions: what the store and the planes must be told. Pure.

The placement itself is decided by the scheduler (loop.py calls it when `fingerprint` moved); here
its envelopes arrive in the snapshot, and everything follows from them level by level.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from control_plane.autoscale.targets import Spares, spares_of, terms_of
from control_plane.reconcile.actions import (
    Action,
    PushDesired,
    RaiseGeneration,
    RecordReport,
    RemoveDeployment,
    SetCondition,
)
from control_plane.reconcile.envelopes import Key, grant_envelopes
from control_plane.reconcile.failover import is_held, weigh
from control_plane.reconcile.leftovers import tombstones
from control_plane.reconcile.peering import Peering, peering_of
from control_plane.reconcile.shares import Shares, shares_of
from control_plane.reconcile.snapshot import Demand, PlaneView, Snapshot
from skerry.fleet.coefficients import Coefficients, coefficients_of
from skerry.fleet.cordon import Cordons
from skerry.fleet.desired import (
    ENGINE_TECHNIQUES,
    FEATURES_NEEDED,
    NODE_CORDONS,
    ROLLOUTS,
    Assignment,
    DesiredState,
)
from skerry.fleet.engine import is_of_first_release
from skerry.fleet.generation import Version
from skerry.fleet.names import SEPARATOR
from skerry.fleet.node import NodeCordon, digest_of_nodes
from skerry.fleet.observation import PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.placement import Envelope

Conditions = Mapping[str, PlaneCondition]
Measured = Mapping[str, tuple[Coefficients, ...]]  # by deployment


def plan_conditions(snapshot: Snapshot, conditions: Conditions) -> tuple[Action, ...]:
    """Record what planes report of themselves and what we judge of them."""
    actions: list[Action] = []
    judged_anew = any(_is_another(plane, conditions) for plane in snapshot.planes)
    weighed = weigh(snapshot) if judged_anew else {}
    for plane in snapshot.planes:
        report = plane.link.report
        if report is not None and _says_anything_new(report, plane):
            actions.append(RecordReport(report=report))
        judged, held = conditions[plane.name], plane.condition
        if snapshot.is_young and report is None and judged.state is PlaneState.SUSPECT:
            continue  # we were away ourselves: that it was not heard yet is no news of it
        if _is_another(plane, conditions):
            before = held.state if held else None
            _, told = weighed[plane.name]
            actions.append(
                SetCondition(plane=plane.name, condition=judged, before=before, verdict=told)
            )
        elif held is not None and _goes_back_otherwise(held, judged):
            actions.append(SetCondition(plane=plane.name, condition=judged, before=held.state))
    return tuple(actions)


def _goes_back_otherwise(held: PlaneCondition, judged: PlaneCondition) -> bool:
    return (held.returned_at, held.displaced) != (judged.returned_at, judged.displaced)


def _is_another(plane: PlaneView, conditions: Conditions) -> bool:
    held = plane.condition
    return held is None or held.state is not conditions[plane.name].state


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
    facts = _facts_of(snapshot, granted, measured_costs(snapshot))
    actions: list[Action] = []
    for plane in snapshot.planes:
        if conditions[plane.name].state is PlaneState.LOST:
            continue
        stored = snapshot.desired_of(plane.name)
        generation = stored.version.generation if stored else 0
        seen = plane.link.report.generation_seen if plane.link.report else 0
        if seen > generation:
            actions.append(RaiseGeneration(plane=plane.name, at_least=seen))
            continue
        wanted = _desired_state(facts, plane)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the desired states of all planes are made of, looked up once for all of them.

    `here` are envelopes by plane and deployment, `serving` planes by deployment, `ends` by plane
    the tombstones of what runs there and was removed.
    """

    snapshot: Snapshot
    demands: tuple[Demand, ...]
    kinds: Mapping[str, str]  # of accelerator, by pool
    here: Mapping[tuple[str, str], tuple[Envelope, ...]]
    serving: Mapping[str, frozenset[str]]
    measured: Measured
    spares: Spares
    shares: Shares
    peering: Peering
    ends: Mapping[str, tuple[Assignment, ...]]
    revoked: frozenset[str]


def desired_state(
    snapshot: Snapshot,
    plane: PlaneView,
    granted: Mapping[Key, Envelope],
    measured: Measured,
) -> DesiredState:
    """Return what a plane is to be told; the store gives it its version."""
    return _desired_state(_facts_of(snapshot, granted, measured), plane)


def _facts_of(snapshot: Snapshot, granted: Mapping[Key, Envelope], measured: Measured) -> _Facts:
    pools = {pool.name: pool for pool in snapshot.pools}
    here: dict[tuple[str, str], list[Envelope]] = {}
    serving: dict[str, set[str]] = {}
    for (name, pool), envelope in sorted(granted.items()):
        plane = pools[pool].plane.name
        here.setdefault((plane, name), []).append(envelope)
        if envelope.ceiling > 0:
            serving.setdefault(name, set()).add(plane)
    told = {name: frozenset(planes) for name, planes in serving.items()}
    return _Facts(
        snapshot=snapshot,
        demands=tuple(sorted(snapshot.demands, key=lambda d: d.deployment.name)),
        kinds={name: pool.shape.accelerator for name, pool in pools.items()},
        here={key: tuple(found) for key, found in here.items()},
        serving=told,
        measured=measured,
        spares=spares_of(snapshot),
        shares=shares_of(snapshot),
        peering=peering_of(snapshot.planes, told),
        ends=tombstones(snapshot),
        revoked=frozenset(snapshot.revoked_planes or ()),
    )


def _desired_state(facts: _Facts, plane: PlaneView) -> DesiredState:
    node_cordons = _node_cordons(facts.snapshot, plane)
    peers = tuple(name for name in facts.peering.names(plane) if name not in facts.revoked)
    assignments = []
    for demand in facts.demands:
        name = demand.deployment.name
        here = facts.here.get((plane.name, name), ())
        kinds = {facts.kinds[envelope.pool] for envelope in here}
        deployment, candidate = facts.shares.told(demand.deployment, plane.name, here)
        assignments.append(
            Assignment(
                deployment=deployment,
                envelopes=here,
                candidate=candidate,
                scaling=terms_of(demand, facts.snapshot, plane.name, here, facts.spares),
                serving_planes=_serving_planes(facts, plane, name, peers),
                tombstone=demand.deleting,
                coefficients=tuple(
                    one for one in facts.measured.get(name, ()) if one.accelerator in kinds
                ),
            )
        )
    assignments += facts.ends.get(plane.name, ())
    return DesiredState(
        plane=plane.name,
        version=Version(epoch=0, generation=0),
        assignments=tuple(assignments),
        peers=tuple(facts.peering.every[name] for name in peers),
        required_features=_features(assignments, node_cordons),
        node_cordons=node_cordons,
        planes=facts.peering.planes,
        api_keys=facts.snapshot.api_keys,
        revoked_planes=facts.snapshot.revoked_planes,
    )


def _features(
    assignments: Iterable[Assignment], node_cordons: tuple[NodeCordon, ...]
) -> tuple[str, ...]:
    """Return what a plane must understand to do as it is told, and no less."""
    needed = list(FEATURES_NEEDED)
    if node_cordons:
        needed.append(NODE_CORDONS)
    # Of a deployment that it runs nothing of, a plane need not understand the engine.
    here = [one for one in assignments if one.envelopes]
    engines = (revision.engine for one in here for revision in one.revisions)
    if not all(map(is_of_first_release, engines)):
        needed.append(ENGINE_TECHNIQUES)
    if any(one.candidate is not None for one in here):
        needed.append(ROLLOUTS)
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
    return stored is wanted or _content_of(stored) == _content_of(wanted)


def _content_of(state: DesiredState) -> tuple[object, ...]:
    """Return all of it but the version; what differs most often first."""
    told = state.assignments, state.peers, state.required_features
    gates = (state.api_keys, state.revoked_planes)
    return (*told, state.node_cordons, state.planes, state.plane, gates)


def _serving_planes(
    facts: _Facts, plane: PlaneView, deployment: str, peers: tuple[str, ...]
) -> tuple[str, ...]:
    """Return who serves the deployment, of a large fleet as far as the plane is told of them."""
    serving = facts.serving.get(deployment, frozenset())
    if facts.peering.planes:
        serving = serving.intersection((plane.name, *peers))
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
