"""The agent's door to the gateway: a topology in, files that Envoy follows out.

`publish` after every change, `ensure_initial` before Envoy's first start and each restart. Both
wait for the disk (about 10 ms a changed file): event loops call them in a thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.plumbing.errors import InvalidInput
from workload_plane.gateway import files
from workload_plane.gateway.consistent import check_references, check_shrink, told_helpers
from workload_plane.gateway.fitting import fitted
from workload_plane.gateway.order import plan_steps
from workload_plane.gateway.resources import Snapshot, build_bootstrap, build_snapshot
from workload_plane.gateway.topology import GatewayTopology


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """What changed on disk, and the version that Envoy should report for each file.

    `bootstrap_proposed`: a changed bootstrap waits for a trial start.
    """

    changed: tuple[str, ...]
    versions: Mapping[str, str]
    bootstrap_proposed: bool


def publish(
    topology: GatewayTopology,
    gateway_dir: Path,
    descriptor_set: bytes,
    tombstones: frozenset[str] = frozenset(),
) -> PublishResult:
    """Write the files for a topology, in an order under which no request meets a gap.

    `tombstones` are the names of replicas, deployments and peers that are meant to go.
    Raises Conflict when more vanishes than they explain, InvalidInput when the resources do not
    fit together or a certificate is missing; then nothing is written.
    """
    root = gateway_dir.resolve()
    snapshot = _checked_snapshot(topology, root, descriptor_set)
    previous = files.load_published(root)
    if previous is not None:
        told = told_helpers(topology, previous, tombstones)
        check_shrink(previous, snapshot, tombstones | told)
    return _write(topology, root, previous, snapshot)


def ensure_initial(
    topology: GatewayTopology, gateway_dir: Path, descriptor_set: bytes
) -> tuple[str, ...]:
    """Make sure that Envoy can start: keep good files, restore torn ones, else begin empty.

    The empty gateway answers /v1/models with an empty list and 404 to the rest. Returns the
    files that were restored or written.
    """
    root = gateway_dir.resolve()
    restored = files.repair(root)
    if files.load_published(root) is not None:
        files.write_bootstrap(root, build_bootstrap(topology, str(root)))
        return restored
    empty = fitted(initial_topology(topology), files.load_bootstrap(root))
    result = _write(empty, root, None, _checked_snapshot(empty, root, descriptor_set))
    return (*restored, *result.changed)


def initial_topology(topology: GatewayTopology) -> GatewayTopology:
    """Return the topology with nothing served: the same addresses, peers and front."""
    return replace(topology, models=())


def _write(
    topology: GatewayTopology, root: Path, previous: Snapshot | None, snapshot: Snapshot
) -> PublishResult:
    proposed = files.write_bootstrap(root, build_bootstrap(topology, str(root)))
    changed = [step.path for step in plan_steps(previous, snapshot) if files.apply_step(root, step)]
    return PublishResult(
        changed=tuple(dict.fromkeys(changed)),
        versions=files.published_versions(root),
        bootstrap_proposed=proposed,
    )


def _checked_snapshot(topology: GatewayTopology, root: Path, descriptor_set: bytes) -> Snapshot:
    tls = topology.tls
    if tls is not None:
        for path in (tls.certificate_path, tls.key_path, tls.authority_path):
            if not Path(path).is_file():
                raise InvalidInput(f"{path} does not exist; the gateway needs it to reach peers")
    snapshot = build_snapshot(topology, str(root), descriptor_set)
    check_references(snapshot)
    return snapshot
