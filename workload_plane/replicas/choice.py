"""Which replica runtime a plane has, by its settings; all else asks the port and the supply."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from skerry.plumbing.clock import Clock
from skerry.plumbing.ids import IdSource
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.port import ReplicaRuntime
from workload_plane.replicas.ray.cluster import RayPlace
from workload_plane.replicas.ray.own_nodes import end_own_nodes
from workload_plane.replicas.ray.runtime import ray_runtime
from workload_plane.replicas.supply import Supply
from workload_plane.settings import PlaneSettings

Runner = Callable[[Callable[[], None]], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """The runtime, what it has to run replicas on, and what must run beside it, if anything.

    `run` takes what to call when the supply may have changed, and never returns by itself;
    `reach` does the same for whoever only ends replicas: it starts nothing.
    """

    runtime: ReplicaRuntime
    supply: Callable[[], Supply]
    run: Runner | None = None
    reach: Callable[[], Coroutine[None, None, None]] | None = None


def choose_runtime(settings: PlaneSettings, clock: Clock, ids: IdSource) -> Hosting:
    """Return the plane's runtime; it starts and touches nothing yet."""
    endpoint = settings.tracing.endpoint if settings.tracing is not None else ""
    if settings.ray is None:
        place = LocalPlace(
            plane=settings.plane,
            replicas_dir=settings.replicas_dir,
            logs_dir=settings.logs_dir,
            device_locks_dir=settings.device_locks_dir,
            prefix_disk_dir=settings.prefix_disk_dir,
            reserved_ports=settings.ports,
            engine_user=settings.engine_user,
            engine_environment=settings.engine_environment,
            trace_endpoint=endpoint,
        )
        told = Supply(shapes=settings.pools, nodes=settings.nodes)
        return Hosting(runtime=LocalRuntime(place, clock), supply=lambda: told)
    ray = ray_runtime(
        RayPlace(
            plane=settings.plane,
            shapes=settings.pools,
            settings=settings.ray,
            replicas_dir=settings.replicas_dir,
            logs_dir=settings.logs_dir,
            device_locks_dir=settings.device_locks_dir,
            prefix_disk_dir=settings.prefix_disk_dir,
            engine_user=settings.engine_user,
            engine_environment=settings.engine_environment,
            trace_endpoint=endpoint,
        ),
        clock,
        ids,
    )
    return Hosting(runtime=ray, supply=lambda: ray.supply, run=ray.run, reach=ray.reach)


async def end_beside(settings: PlaneSettings, clock: Clock) -> int:
    """End what the runtime started beside the replicas; return how many there were."""
    return await end_own_nodes(settings.ray, clock) if settings.ray is not None else 0
