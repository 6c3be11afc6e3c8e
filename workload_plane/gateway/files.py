"""The gateway's files: written so that Envoy never reads half of one, with a copy to go back to.

`publish.py` writes through here; whoever starts Envoy calls `repair` first, because a running
Envoy keeps the last good state in memory but a starting one has only the files. A file's version
is the digest of what it holds, so a torn or altered one is told from a good one.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
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
PROPOSED_BOOTSTRAP = "bootstrap.proposed.json"
PREVIOUS_BOOTSTRAP = "bootstrap.previous.json"
# A second copy of what is published, and the one before it; outside of every watched folder, so
# that keeping them wakes nobody. A torn file costs nothing, two torn ones the latest change.
_COPY_FOLDERS = ("copies", "previous")
# What Envoy was seen to have taken up, for when it refuses what came after.
_CONFIRMED = "confirmed"
_VERSION_CHARACTERS = 16

# The time of the last change, the size and the inode, by path.
Stamps = Mapping[str, tuple[int, int, int] | None]


def apply_step(gateway_dir: Path, step: Step) -> bool:
    """Carry one step out and return whether anything changed on disk."""
    match step:
        case WriteFile():
            return _write_resources(gateway_dir, step.path, step.resources)
        case RemoveFile():
            removed = _remove(gateway_dir / step.path)
            for folder in (*_COPY_FOLDERS, _CONFIRMED):
                _remove(gateway_dir / folder / step.path)
            return removed


def write_bootstrap(gateway_dir: Path, bootstrap: Json) -> bool:
    """Write Envoy's static configuration; return whether another one is proposed.

    The first is in force at once. A changed one waits beside it for a trial start, after which
    `adopt_bootstrap` puts it in force: with a bad one a gateway that ends would not come back.
    """
    data = json.dumps(bootstrap, indent=1).encode()
    path = gateway_dir / BOOTSTRAP
    if not path.is_file():
        _write(path, data)
    if path.read_bytes() == data:
        _remove(gateway_dir / PROPOSED_BOOTSTRAP)
        return False
    if not _has(gateway_dir / PROPOSED_BOOTSTRAP, data):
        _write(gateway_dir / PROPOSED_BOOTSTRAP, data)
    return True


def adopt_bootstrap(gateway_dir: Path) -> None:
    """Put the proposed bootstrap in force for the next start; the one before is kept."""
    path = gateway_dir / BOOTSTRAP
    _write(gateway_dir / PREVIOUS_BOOTSTRAP, path.read_bytes())
    (gateway_dir / PROPOSED_BOOTSTRAP).replace(path)
    # Its age is compared with Envoy's: the proposal may be older than the Envoy that runs.
    path.touch()


def load_bootstrap(gateway_dir: Path) -> Json | None:
    """Return what the next Envoy starts from: None before there is one, {} where it is torn."""
    try:
        bootstrap = json.loads((gateway_dir / BOOTSTRAP).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return bootstrap if isinstance(bootstrap, dict) else {}


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


def stamps(gateway_dir: Path, paths: Iterable[str]) -> Stamps:
    """Return what changes whenever one of these files is written, None for what is not there."""
    return {path: _stamp(gateway_dir / path) for path in paths}


def other_than(gateway_dir: Path, versions: Mapping[str, str]) -> set[str]:
    """Return those of the files that do not hold this version: altered, torn or gone."""
    return {
        path
        for path, version in versions.items()
        if (found := _read_good(gateway_dir / path)) is None or version_of(found) != version
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


def confirm(gateway_dir: Path, versions: Mapping[str, str]) -> None:
    """Keep a copy of every file that Envoy has taken up in that version."""
    for path, version in versions.items():
        taken = _read_good(gateway_dir / path)
        if taken is None or version_of(taken) != version:
            continue
        copy = gateway_dir / _CONFIRMED / path
        if (kept := _read_good(copy)) is None or version_of(kept) != version:
            _write(copy, (gateway_dir / path).read_bytes())


def revert(gateway_dir: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Put the confirmed copies of refused files back, and return those that there were.

    A running Envoy serves the last good ones from memory; one that is started has only the files,
    and with its clusters refused it would have none.
    """
    reverted = []
    for path in paths:
        confirmed = _read_good(gateway_dir / _CONFIRMED / path)
        current = _read_good(gateway_dir / path)
        if confirmed is not None and confirmed != current:
            _write(gateway_dir / path, (gateway_dir / _CONFIRMED / path).read_bytes())
            reverted.append(path)
    return tuple(reverted)


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
    kept = _read_good(copy)
    # What is only written again does not push out what was published before it.
    if kept is not None and version_of(kept) != version:
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


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _has(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


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
