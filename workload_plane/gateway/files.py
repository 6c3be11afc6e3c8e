"""The gateway's files: written so that Envoy never reads half of one, with a copy to go back to.

`publish.py` writes through here; whoever starts Envoy calls `repair` first, because a running
Envoy keeps the last good state in memory but a starting one has only the files. A file's version
is the digest of what it holds, so a torn or altered one is told from a good one.
"""

import contextlib
import hashlib
import json
from pathlib import Path

from skerry.plumbing.files import write_atomically
from workload_plane.gateway.clusters import endpoints_file
from workload_plane.gateway.order import (
    CLUSTERS,
    ENDPOINTS_FOLDER,
    LISTENERS,
    ROUTES_FOLDER,
    SECRETS_FOLDER,
    RemoveFile,
    Step,
    WriteFile,
)
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.wire import Json, typed

BOOTSTRAP = "bootstrap.json"
# A second copy of what is published, and the one before it; outside of every watched folder, so
# that keeping them wakes nobody. A torn file costs nothing, two torn ones the latest change.
_COPY_FOLDERS = ("copies", "previous")
_VERSION_CHARACTERS = 16


def apply_step(gateway_dir: Path, step: Step) -> bool:
    """Carry one step out and return whether anything changed on disk."""
    match step:
        case WriteFile():
            return _write_resources(gateway_dir, step.path, step.resources)
        case RemoveFile():
            removed = _remove(gateway_dir / step.path)
            for folder in _COPY_FOLDERS:
                _remove(gateway_dir / folder / step.path)
            return removed


def write_bootstrap(gateway_dir: Path, bootstrap: Json) -> bool:
    """Write Envoy's static configuration and return whether it changed (needs a restart)."""
    data = json.dumps(bootstrap, indent=1).encode()
    path = gateway_dir / BOOTSTRAP
    if path.is_file() and path.read_bytes() == data:
        return False
    _write(path, data)
    return True


def load_published(gateway_dir: Path) -> Snapshot | None:
    """Return what was last published, file by file the newest good copy; None before the first."""
    listeners, clusters = _newest(gateway_dir, LISTENERS), _newest(gateway_dir, CLUSTERS)
    routes = _newest_of_folder(gateway_dir, ROUTES_FOLDER)
    if listeners is None or clusters is None or not routes:
        return None
    return Snapshot(
        listeners=listeners,
        clusters=clusters,
        routes=routes,
        endpoints=_newest_of_folder(gateway_dir, ENDPOINTS_FOLDER),
        secrets=_newest_of_folder(gateway_dir, SECRETS_FOLDER),
    )


def published_versions(gateway_dir: Path) -> dict[str, str]:
    """Return the version of every good file, by its path relative to the gateway's folder."""
    return {
        path: version_of(resources)
        for path in _known_paths(gateway_dir)
        if (resources := _read_good(gateway_dir / path)) is not None
    }


def repair(gateway_dir: Path) -> tuple[str, ...]:
    """Put back the best copy of every file that is torn or missing; return which.

    To be called before Envoy is started. Endpoints with no good copy become empty ones: one lost
    file must not make Envoy refuse all clusters. Folders of deployments that went are removed
    here only: a running Envoy may still watch one, and would not notice a new one of its name.
    """
    repaired = [
        path
        for path in _known_paths(gateway_dir)
        if _read_good(gateway_dir / path) is None and _restore(gateway_dir, path)
    ]
    for cluster in _read_good(gateway_dir / CLUSTERS) or ():
        path = endpoints_file(cluster["name"])
        if cluster.get("type") == "EDS" and _read_good(gateway_dir / path) is None:
            _write_resources(gateway_dir, path, (_no_endpoints(cluster["name"]),))
            repaired.append(path)
    for folder in (gateway_dir / ENDPOINTS_FOLDER).glob("*"):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    return tuple(repaired)


def version_of(resources: tuple[Json, ...]) -> str:
    """Return the version under which these resources are published: the digest of them."""
    canonical = json.dumps(resources, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).hexdigest()[:_VERSION_CHARACTERS]


def _write_resources(gateway_dir: Path, path: str, resources: tuple[Json, ...]) -> bool:
    current = _read_good(gateway_dir / path)
    version = version_of(resources)
    if current is not None and version_of(current) == version:
        return False
    body = {"version_info": version, "resources": resources}
    data = json.dumps(body, separators=(",", ":")).encode()
    copy, previous = (gateway_dir / folder / path for folder in _COPY_FOLDERS)
    if _read_good(copy) is not None:
        previous.parent.mkdir(parents=True, exist_ok=True)
        copy.replace(previous)
    _write(copy, data)
    _write(gateway_dir / path, data)
    return True


def _restore(gateway_dir: Path, path: str) -> bool:
    for folder in _COPY_FOLDERS:
        if _read_good(gateway_dir / folder / path) is not None:
            _write(gateway_dir / path, (gateway_dir / folder / path).read_bytes())
            return True
    return False


def _newest(gateway_dir: Path, path: str) -> tuple[Json, ...] | None:
    candidates = (gateway_dir / path, *(gateway_dir / folder / path for folder in _COPY_FOLDERS))
    return next((good for file in candidates if (good := _read_good(file)) is not None), None)


def _newest_of_folder(gateway_dir: Path, folder: str) -> tuple[Json, ...]:
    return tuple(
        resource
        for path in _known_paths(gateway_dir)
        if path.startswith(f"{folder}/")
        for resource in _newest(gateway_dir, path) or ()
    )


def _read_good(path: Path) -> tuple[Json, ...] | None:
    """Return a file's resources, None when it is missing, torn or altered."""
    try:
        body = json.loads(path.read_bytes())
        resources = tuple(body["resources"])
        version = body["version_info"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return resources if version == version_of(resources) else None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _known_paths(gateway_dir: Path) -> list[str]:
    """Return every file that is, or has a copy, in the order of its name."""
    folders = (ROUTES_FOLDER, SECRETS_FOLDER, f"{ENDPOINTS_FOLDER}/*")
    patterns = (LISTENERS, CLUSTERS, *(f"{folder}/[!.]*.json" for folder in folders))
    return sorted(
        {
            str(path.relative_to(root))
            for root in (gateway_dir, *(gateway_dir / folder for folder in _COPY_FOLDERS))
            for pattern in patterns
            for path in root.glob(pattern)
        }
    )


def _no_endpoints(cluster: str) -> Json:
    return typed("envoy.config.endpoint.v3.ClusterLoadAssignment", cluster_name=cluster)
