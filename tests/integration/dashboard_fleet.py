"""The deployments that the dashboard's tests and pictures show."""

from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    Tolerate,
)
from skerry.fleet.engine import EngineName, EngineSpec
from tests.integration.dashboard_world import World

_TP = {"h100-80gb": 4, "a100-80gb": 4, "l40s-48gb": 4}


def a_model(name: str, least: int, most: int, size: int = 1, **policy: object) -> Deployment:
    """Return a deployment whose replicas take `size` accelerators of any kind."""
    shapes = tuple(
        ResourceShape(accelerator=kind, accelerators=min(size, full)) for kind, full in _TP.items()
    )
    return Deployment(
        name=name,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="builtin://skerry-tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=shapes,
        ),
        scaling=Scaling(min_replicas=least, max_replicas=most),
        policy=PlacementPolicy(**policy),  # type: ignore[arg-type]
    )


FLEET = (
    a_model(
        "chat-70b", 6, 8, 4, priority=0, tolerate=Tolerate(domain=FailureDomain.PLANE, keep=0.5)
    ),
    a_model("code-32b", 4, 6, 2),
    a_model("embed", 5, 12, priority=2),
    a_model("summary-eu", 3, 4, 2, residency_zones=("eu",)),
    a_model("legal-de", 7, 7, 4, residency_zones=("de",), priority=3),
)


async def apply_fleet(world: World) -> None:
    """Apply all of them and let them run."""
    async with world.client() as client:
        await client.apply_all(FLEET)
    await world.turns(6)
