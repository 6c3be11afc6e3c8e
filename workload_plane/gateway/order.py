"""Which file holds what, and in which order files change: what is pointed at comes first.

Pure; `publish.publish` calls `plan_steps` and `files.py` carries the steps out. Envoy takes only
one resource per file for routes, secrets and endpoints, all of them for listeners and clusters.
"""

from dataclasses import dataclass

from workload_plane.gateway.clusters import endpoints_file
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.wire import Json

LISTENERS = "listeners/listeners.json"
CLUSTERS = "clusters/clusters.json"
ROUTES_FOLDER, SECRETS_FOLDER, ENDPOINTS_FOLDER = "routes", "secrets", "endpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """Put these resources into the file; nothing happens when they are there already."""

    path: str
    resources: tuple[Json, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFile:
    """Remove a file that nothing refers to any more."""

    path: str


Step = WriteFile | RemoveFile


def plan_steps(previous: Snapshot | None, new: Snapshot) -> tuple[Step, ...]:
    """Return the steps from what is published to the new snapshot, make before break.

    Clusters that go stay until the routes that name them are gone.
    """
    new_names = {cluster["name"] for cluster in new.clusters}
    leaving = tuple(
        cluster
        for cluster in (previous.clusters if previous else ())
        if cluster["name"] not in new_names
    )
    before = single_files(previous) if previous else {}
    after = single_files(new)
    pointing = {path for path in after if path.startswith(f"{ROUTES_FOLDER}/")}
    steps: list[Step] = [
        *(_write(path, after[path]) for path in after if path not in pointing),
        WriteFile(path=CLUSTERS, resources=(*new.clusters, *leaving)),
        *(_write(path, after[path]) for path in after if path in pointing),
        WriteFile(path=LISTENERS, resources=new.listeners),
    ]
    if leaving:
        steps.append(WriteFile(path=CLUSTERS, resources=new.clusters))
    steps += [RemoveFile(path=path) for path in before if path not in after]
    return tuple(steps)


def single_files(snapshot: Snapshot) -> dict[str, Json]:
    """Return the resources that have a file of their own, by path."""
    return {
        **{f"{SECRETS_FOLDER}/{secret['name']}.json": secret for secret in snapshot.secrets},
        **{endpoints_file(entry["cluster_name"]): entry for entry in snapshot.endpoints},
        **{f"{ROUTES_FOLDER}/{table['name']}.json": table for table in snapshot.routes},
    }


def _write(path: str, resource: Json) -> WriteFile:
    return WriteFile(path=path, resources=(resource,))
