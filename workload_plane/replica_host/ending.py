"""How long a replica takes to end in order: what its host does by then, and whoever ends it waits.

Requests under way are finished, then gRPC's last bytes are sent, the process that answers ends, the
workers behind it side by side, and its directory is given back.
"""

from workload_plane.engines.port import EngineLaunch
from workload_plane.replica_host.spec import DRAIN_SECONDS_MAX_DEFAULT

# After the drain nothing is under way; this is for answers whose last bytes are being sent.
GRPC_STOP_SECONDS = 0.5
# Of a proxy before workers: it holds no weights, and its requests are finished.
PROXY_GRACE_SECONDS_MAX = 5.0
# The kernel takes a moment to end what was killed with a lot of memory.
DIRECTORY_SECONDS_MAX = 5.0
# Of a busy machine: the interpreter's own end, and the looks in between.
_MARGIN_SECONDS = 4.5
# Then it is killed. Whoever ends the machine gives more than this, see deploy/.
STOP_SECONDS_MAX = 70.0


def end_seconds_max(
    launch: EngineLaunch, drain_seconds_max: float = DRAIN_SECONDS_MAX_DEFAULT
) -> float:
    """Return how long the replica of that launch takes at most."""
    grace = launch.drain.kill_after_seconds
    proxy = main_grace_seconds(launch) if launch.workers else 0.0
    return (
        drain_seconds_max
        + GRPC_STOP_SECONDS
        + proxy
        + grace
        + DIRECTORY_SECONDS_MAX
        + _MARGIN_SECONDS
    )


def main_grace_seconds(launch: EngineLaunch) -> float:
    """Return the grace of the process that answers: the engine's own, or that of a proxy."""
    grace = launch.drain.kill_after_seconds
    return min(grace, PROXY_GRACE_SECONDS_MAX) if launch.workers else grace
