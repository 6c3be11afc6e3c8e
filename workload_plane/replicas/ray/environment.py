"""The environment of processes that speak to Ray, and the cluster's token.

Whoever has the token may run anything on every node: it stays in a file of its owner's.
"""

import os
from collections.abc import Mapping

from skerry.plumbing.errors import NotFound, Unavailable
from skerry.plumbing.ids import IdSource
from workload_plane.replicas.ray.settings import LOOPBACK, RaySettings

# Of each of Ray's own logs, and how many older parts it keeps: its defaults are 512 MiB and 5.
LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_BACKUPS = 1
_MODE = 0o600
# A secret that Kubernetes mounts is root's, and is read through its group (fsGroup). To write it is
# for its owner, to read it for nobody else.
_FORBIDDEN = 0o027


def ray_environment(settings: RaySettings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with what Ray needs: token, bounded logs, no reports, loopback."""
    added = {
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES_MAX),
        "RAY_ROTATION_BACKUP_COUNT": str(LOG_BACKUPS),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(settings.token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": settings.head_address,
    }
    if settings.host == LOOPBACK:
        added["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    kept = {key: value for key, value in environment.items() if key != "RAY_AUTH_TOKEN"}
    return kept | added


def ensure_token(settings: RaySettings, ids: IdSource) -> None:
    """Make the token of a cluster of our own; raises NotFound or Unavailable for a bad one."""
    path = settings.token_file
    if settings.starts_head and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "w") as file:
            file.write(ids.token())
    try:
        status = path.stat()
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; copy the token of the Ray cluster there") from None
    if status.st_uid not in (0, os.geteuid()):
        raise Unavailable(f"{path} is somebody else's, who may change it; `chown` it to this user")
    if status.st_mode & _FORBIDDEN:
        raise Unavailable(
            f"{path} can be read by anybody, or written by its group; `chmod 600` it, or 440 for a"
            " mounted secret"
        )
