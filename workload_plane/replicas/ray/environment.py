"""The environment of processes that speak to Ray, and the cluster's token.

Whoever has the token may run anything on every node: it stays in a file of its owner's.
"""

import os
from collections.abc import Mapping

from skerry.plumbing.errors import NotFound, Unavailable
from skerry.plumbing.ids import IdSource
from workload_plane.replicas.ray.settings import LOOPBACK, RaySettings

_MODE = 0o600
_OTHERS = 0o077


def ray_environment(settings: RaySettings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with what Ray needs: the token, no usage reports, loopback kept."""
    added = {
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
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; copy the token of the Ray cluster there") from None
    if mode & _OTHERS:
        raise Unavailable(f"{path} can be read by others; `chmod 600` it")
