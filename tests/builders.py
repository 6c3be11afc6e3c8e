"""Builders of fleet values for tests: everything has a sensible default, name what matters."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.reconcile.snapshot import Demand, LinkView, PlaneView, Snapshot
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import (
    ObservedReplica,
    PeerVerdict,
    PeerView,
    PlaneCondition,
    PlaneReport,
    PlaneState,
    ReplicaState,
)
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, Pool, PoolShape, PoolTerms
from skerry.fleet.profile import Profile, ProfileStep, profile_key

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1024**3
TOLD_AT_SECONDS = 1e6  # of reports, by their planes' monotonic clocks


def an_identity(name: str = "onprem-fra", **fields: Any) -> PlaneIdentity:
    """A plane's identity; cloud and region follow from the name unless given."""
    cloud, _, region = name.partition("-")
    return replace(PlaneIdentity(name=name, cloud=cloud, region=region or cloud), **fields)


def a_shape(name: str = "cpu", **fields: Any) -> PoolShape:
    """One node of four `cpu` accelerators."""
    shape = PoolShape(
        name=name,
        accelerator="cpu",
        accelerator_memory_bytes=GIB,
        nodes=1,
        accelerators_per_node=4,
        host_memory_bytes=4 * GIB,
    )
    return replace(shape, **fields)


def a_pool(plane: str = "onprem-fra", *, price: float | None = 0.1, **fields: Any) -> Pool:
    """A priced pool of that plane; `fields` change its shape."""
    return Pool(
        plane=an_identity(plane),
        shape=a_shape(**fields),
        terms=PoolTerms(price_per_accelerator_hour=price),
    )


def a_deployment(name: str = "demo", *, replicas: int = 3, **fields: Any) -> Deployment:
    """A deployment of `replicas` on one `cpu` each."""
    deployment = Deployment(
        name=name,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="builtin://skerry-tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu", host_memory_bytes=GIB // 4),),
        ),
        scaling=Scaling(min_replicas=replicas, max_replicas=max(replicas, 1)),
        policy=PlacementPolicy(),
    )
    return replace(deployment, **fields)


def a_replica(
    deployment: str = "demo", pool: str = "onprem-fra--cpu", **fields: Any
) -> ObservedReplica:
    """A READY replica of revision 1."""
    replica = ObservedReplica(
        name=f"{deployment}-r1-aaaa",
        deployment=deployment,
        revision=1,
        pool=pool,
        state=ReplicaState.READY,
    )
    return replace(replica, **fields)


def a_report(plane: str = "onprem-fra", **fields: Any) -> PlaneReport:
    """A report of a plane with one pool and nothing running."""
    report = PlaneReport(
        identity=an_identity(plane),
        pools=(a_shape(),),
        gateway=GatewayAddresses(http="127.0.0.1:1", grpc="127.0.0.1:1", peer="127.0.0.1:2"),
        held=NEVER,
        told_at_seconds=TOLD_AT_SECONDS,
    )
    return replace(report, **fields)


def a_view(plane: str, verdict: PeerVerdict, age_seconds: float = 5.0) -> PeerView:
    """What a witness says of a plane that it saw serve until so many seconds ago."""
    if verdict in (PeerVerdict.SERVING, PeerVerdict.UNKNOWN):
        return PeerView(plane=plane, verdict=verdict)
    return PeerView(
        plane=plane,
        verdict=verdict,
        served_until=T0 - timedelta(seconds=age_seconds),
        served_until_seconds=TOLD_AT_SECONDS - age_seconds,
    )


def a_plane_view(
    plane: str = "onprem-fra",
    *,
    state: PlaneState | None = PlaneState.CONNECTED,
    connected: bool = True,
    silent_seconds: float = 0.5,
    report: PlaneReport | None = None,
    sees: dict[str, PeerVerdict] | None = None,
) -> PlaneView:
    """A plane as stored, with its link; `sees` is what it says of its peers."""
    if report is None:
        # Everybody has served until a moment ago, as most planes have.
        views = tuple(a_view(p, v) for p, v in (sees or {}).items())
        report = a_report(plane, peers=views, held=Version(epoch=1, generation=1))
    return PlaneView(
        identity=report.identity,
        gateway=report.gateway,
        shapes=report.pools,
        condition=PlaneCondition(state=state, since=T0) if state else None,
        link=LinkView(
            connected=connected,
            silent_seconds=silent_seconds,
            report=report,
            report_age_seconds=0.0,
        ),
    )


def a_snapshot(*planes: PlaneView, **fields: Any) -> Snapshot:
    """A snapshot long after the start; pools follow from the planes unless given."""
    pools = tuple(
        Pool(plane=plane.identity, shape=shape, terms=PoolTerms(price_per_accelerator_hour=0.1))
        for plane in planes
        for shape in plane.shapes
    )
    fields.setdefault("pools", pools)
    return Snapshot(now=T0, planes=planes, since_start_seconds=fields.pop("age", 3600.0), **fields)


def a_demand(deployment: Deployment | None = None, *, deleting: bool = False) -> Demand:
    """A stored deployment."""
    return Demand(deployment=deployment or a_deployment(), deleting=deleting)


def a_step(concurrency: int = 1, speed: float = 100.0, **fields: Any) -> ProfileStep:
    """A step that meets the usual objective."""
    step = ProfileStep(
        concurrency=concurrency,
        requests=20,
        ttft_p50_seconds=0.1,
        ttft_p99_seconds=0.2,
        itl_samples=400,
        itl_p50_seconds=0.01,
        itl_p99_seconds=0.02,
        tpot_p99_seconds=0.015,
        output_tokens_per_second=speed,
        prompt_tokens_per_second=2 * speed,
    )
    return replace(step, **fields)


def a_profile(
    speeds: dict[int, float], deployment: Deployment | None = None, **key: Any
) -> Profile:
    """A profile of a deployment's first shape: tokens/s by concurrency; `key` changes what of."""
    revision = (deployment or a_deployment()).revision
    told = replace(profile_key(revision, revision.shapes[0]), **key)
    return Profile(
        name=told.name,
        base_model=told.base_model,
        engine=told.engine.value,
        engine_version=told.engine_version,
        configuration=told.configuration,
        accelerator=told.accelerator,
        accelerators=told.accelerators,
        steps=tuple(a_step(concurrency, speed) for concurrency, speed in sorted(speeds.items())),
        measured_at=T0,
        prompt_tokens=128,
        output_tokens=64,
        load_seconds=12.5,
        software="skerry 1",
    )
