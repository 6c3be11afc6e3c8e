"""`skerry apply` tells what would wait for ever, and what will stay pending, before it is sent."""

from dataclasses import replace

from skerry.cli.fit import describe_misfit, describe_pending, is_placed, lasting_rejections
from skerry.client.rows import PlaneRow, PlannedRow, PlanPreview, PoolRow, UnplacedRow
from skerry.fleet.deployment import Deployment, PlacementPolicy, ResourceShape
from skerry.fleet.generation import NEVER
from skerry.fleet.observation import PlaneState
from skerry.fleet.pool import GatewayAddresses, PoolShape, PoolTerms
from tests.builders import a_deployment, a_shape, an_identity


def a_plane_row(name: str = "onprem-fra") -> PlaneRow:
    """Return a plane's row."""
    return PlaneRow(
        identity=an_identity(name),
        gateway=GatewayAddresses(http="h:1", grpc="h:1", peer="h:2"),
        state=PlaneState.CONNECTED,
        reason="",
        since=None,
        desired=NEVER,
        held=NEVER,
        witnesses=(),
        nack="",
    )


def a_pool_row(
    plane: str = "onprem-fra", *, shape: PoolShape | None = None, terms: PoolTerms | None = None
) -> PoolRow:
    """Return the row of a priced pool of four accelerators."""
    return PoolRow(
        name=f"{plane}--cpu",
        plane=plane,
        shape=shape or a_shape(),
        terms=terms or PoolTerms(price_per_accelerator_hour=0.1),
        accelerators_placed=0,
        etag="",
    )


def a_giant() -> Deployment:
    """Return a deployment whose replica takes 1,000 accelerators."""
    plain = a_deployment()
    shape = ResourceShape(accelerator="cpu", accelerators=1_000)
    return replace(plain, revision=replace(plain.revision, shapes=(shape,)))


def a_preview(*, placed: int = 0, unplaced: int = 0) -> PlanPreview:
    """Return what the plan would do to `demo`, and to another one that has no place."""
    return PlanPreview(
        placements=(
            PlannedRow(
                deployment="demo",
                pool="onprem-fra--cpu",
                replicas_before=2,
                replicas_after=placed,
                cost_per_hour=0.1,
                reason="",
            ),
        ),
        rejections=(),
        unplaced=(
            UnplacedRow(deployment="other", replicas=9, reason="full"),
            *((UnplacedRow(deployment="demo", replicas=unplaced, reason="full"),) * bool(unplaced)),
        ),
        cost_per_hour_before=0.0,
        cost_per_hour_after=0.0,
        solver="exact",
        solve_seconds=0.0,
        optimal=True,
    )


def test_what_is_larger_than_any_pool_is_rejected_by_every_pool() -> None:
    planes = (a_plane_row("a-x"), a_plane_row("b-x"))
    pools = (a_pool_row("a-x"), a_pool_row("b-x"))
    reasons = lasting_rejections(a_giant(), planes, pools)
    assert set(reasons) == {"a-x--cpu", "b-x--cpu"}
    assert "1000" in reasons["a-x--cpu"]
    told = describe_misfit("demo", reasons)
    assert "a-x--cpu: " in told
    assert "--force" in told


def test_one_pool_that_can_host_it_is_enough() -> None:
    large = a_pool_row("b-x", shape=a_shape(nodes=1, accelerators_per_node=1_000))
    planes = (a_plane_row("a-x"), a_plane_row("b-x"))
    assert not lasting_rejections(a_giant(), planes, (a_pool_row("a-x"), large))


def test_what_passes_is_no_lasting_rejection() -> None:
    closed = a_pool_row(terms=PoolTerms(cordoned=True))
    assert not lasting_rejections(a_deployment(), (a_plane_row(),), (closed,))
    unfit = a_pool_row(shape=a_shape(nodes=0))
    assert not lasting_rejections(a_deployment(), (a_plane_row(),), (unfit,))


def test_a_policy_that_no_pool_meets_is_a_lasting_rejection() -> None:
    elsewhere = a_deployment(policy=PlacementPolicy(clouds=("moon",)))
    reasons = lasting_rejections(elsewhere, (a_plane_row(),), (a_pool_row(),))
    assert "moon" in reasons["onprem-fra--cpu"]


def test_a_fleet_that_is_not_known_yet_rejects_nothing() -> None:
    assert not lasting_rejections(a_giant(), (), ())
    assert not lasting_rejections(a_giant(), (), (a_pool_row(),))


def test_a_long_refusal_is_cut() -> None:
    told = describe_misfit("demo", {f"p{n:03d}--cpu": "too small" for n in range(100)})
    assert "and 92 more pools" in told


def test_only_the_deployments_own_pending_replicas_are_told() -> None:
    assert is_placed(a_preview(placed=1), "demo")
    assert not is_placed(a_preview(placed=0), "demo")
    assert describe_pending(a_preview(placed=1), "demo") == ()
    assert describe_pending(a_preview(placed=1, unplaced=1), "demo") == ("1 replica: full",)
