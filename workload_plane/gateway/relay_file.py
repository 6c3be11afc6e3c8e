"""What the relay is told, from what is desired: PURE; `feed` writes it as relay.json."""

from collections.abc import Iterable

from skerry.fleet.desired import DesiredState
from workload_plane.gateway.routing import admits, served
from workload_plane.relay.known import RELAY_FORMAT
from workload_plane.replicas.port import LiveReplica
from workload_plane.settings import PlaneSettings


def build_relay_file(
    settings: PlaneSettings, desired: DesiredState, live: Iterable[LiveReplica]
) -> dict[str, object] | None:
    """Return the continued deployments with the engine that serves each; None without any."""
    override = settings.engine_override
    continued = [
        {
            "deployment": assignment.deployment.name,
            "engine": (override or assignment.deployment.revision.engine.name).value,
        }
        for assignment in served(desired, live)
        if assignment.deployment.routing.continuation and admits(settings, assignment)
    ]
    return {"format": RELAY_FORMAT, "deployments": continued} if continued else None
