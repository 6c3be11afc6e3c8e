"""A snapshot as the global loop is to see a deployment: its planes, bounds, prices and costs. Pure.

`rounds.py` decides by it. What a plane does not tell is taken as it last was, never as nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from control_plane.autoscale.costs import LearnedCosts
from control_plane.autoscale.targets import price_of
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.splitting import PlaneShare
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport
from skerry.fleet.autoscaling.work import Engine, engine_of
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneState, ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import Pool

Conditions = Mapping[str, PlaneCondition]


class Told(Protocol):
    """What a plane told of its loads; `LoadReport` is one."""

    def of(self, deployment: str) -> DeploymentLoad | None:
        """Return what is told of a deployment."""

    def readings(self) -> LoadReport:
        """Return what was counted, perhaps without decisions."""

    def answers(self, deployment: str) -> RecentAnswers | None:
        """Return how answers of a deployment went, None where that was not told."""


Loads = Mapping[str, Told]  # by plane
Measured = Mapping[str, tuple[Coefficients, ...]]  # by deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What all deployments are seen by at one moment; `envelopes` are as targets moved them last.

    `loads` are the newest of planes that tell them.
    """

    snapshot: Snapshot
    conditions: Conditions
    envelopes: Sequence[Envelope]
    loads: Loads
    measured: Measured


def shares_by_deployment(scene: Scene, costs: LearnedCosts) -> dict[str, list[PlaneShare]]:
    """Return the shares of every deployment that scales, planes in the order of their names.

    `costs` remembers what planes tell of them meanwhile.
    """
    snapshot = scene.snapshot
    pools = {pool.name: pool for pool in snapshot.pools}
    scaling = {
        demand.deployment.name: demand.deployment
        for demand in snapshot.demands
        if demand.deployment.scaling.scales and not demand.deleting
    }
    here: dict[tuple[str, str], list[Envelope]] = defaultdict(list)
    for one in scene.envelopes:
        if one.deployment in scaling and one.pool in pools:
            here[one.deployment, pools[one.pool].plane.name].append(one)
    running = _running(snapshot, scaling)
    found: dict[str, list[PlaneShare]] = {name: [] for name in scaling}
    for name, plane in sorted(here.keys() | running.keys()):
        condition = scene.conditions.get(plane)
        if condition is None or condition.state is PlaneState.LOST:
            continue
        mine = here.get((name, plane), [])
        target = sum(one.target for one in mine)
        # Of a plane that is not heard, what it ran last is no sign that it runs less now.
        many = running.get((name, plane), 0)
        if condition.state not in HEARD:
            many = max(many, target)
        kinds = _kinds(mine, pools)
        engine = _engine(scaling[name], plane, kinds, scene, costs)
        found[name].append(_share(scaling[name], plane, mine, many, engine, pools))
    costs.turn()
    return found


def _share(
    deployment: Deployment,
    plane: str,
    mine: Sequence[Envelope],
    running: int,
    engine: Engine | None,
    pools: Mapping[str, Pool],
) -> PlaneShare:
    prices = [price_of(deployment, pools[one.pool]) for one in mine]
    return PlaneShare(
        plane=plane,
        running=running,
        floor=sum(one.floor for one in mine),
        ceiling=sum(one.ceiling for one in mine),
        engine=engine,
        price_per_hour=min(prices, default=0.0),
        granted=sum(one.target for one in mine),
    )


def _kinds(mine: Sequence[Envelope], pools: Mapping[str, Pool]) -> list[str]:
    """Return the kinds of accelerator of some envelopes, where most may run first."""
    order = sorted(mine, key=lambda one: (-one.ceiling, one.pool))
    return [pools[one.pool].shape.accelerator for one in order]


def _engine(
    deployment: Deployment, plane: str, kinds: Sequence[str], scene: Scene, costs: LearnedCosts
) -> Engine | None:
    """Return what requests cost on the first of some kinds that is known.

    By what the plane measured itself, else by what others did, else by the profile. None where
    nobody knows: the plane then counts by concurrency.
    """
    profiled = {one.accelerator: one for one in reversed(scene.measured.get(deployment.name, ()))}
    of_plane = _told(deployment, plane, scene) if kinds else {}
    for kind in kinds:
        found = costs.of(deployment, kind, own=of_plane.get(kind), profile=profiled.get(kind))
        if found is not None:
            revision = deployment.revision
            tpot = revision.objective.tpot_seconds
            return engine_of(found, revision.engine.concurrent_requests, tpot)
    return None


def _told(deployment: Deployment, plane: str, scene: Scene) -> dict[str, Coefficients]:
    report = scene.loads.get(plane)
    told = report.of(deployment.name) if report is not None else None
    return {one.accelerator: one for one in reversed(told.coefficients)} if told is not None else {}


def _running(snapshot: Snapshot, scaling: Mapping[str, Deployment]) -> dict[tuple[str, str], int]:
    """Return how many replicas planes mean to run, by deployment and plane.

    One that failed is started again: it is no sign of less being wanted.
    """
    found: dict[tuple[str, str], int] = defaultdict(int)
    for plane in snapshot.planes:
        for name in _meant(plane):
            if name in scaling:
                found[name, plane.name] += 1
    return found


def _meant(plane: PlaneView) -> Iterable[str]:
    report = plane.link.report
    if report is None:
        return ()
    return (r.deployment for r in report.replicas if r.state is not ReplicaState.DRAINING)
