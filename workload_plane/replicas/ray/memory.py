"""What the Ray runtime keeps on disk beside the records: nodes as last seen, and who is fenced.

Both are read at the start of an agent, which may well begin while Ray is gone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.files import write_atomically
from workload_plane.replicas.ray.nodes import KnownNode

_log = logs.get_logger(__name__)

FENCED_MAX = 10_000  # names of replicas given up with their nodes; the oldest go first


def read_nodes(path: Path, now: float) -> dict[str, KnownNode]:
    """Return the nodes as last seen, none of which is known to be there; empty without a file."""
    try:
        values = json.loads(path.read_bytes())
        nodes = [KnownNode(**{**value, "node_id": "", "seen_at": now}) for value in values]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        _log.warning("ray.nodes-unreadable", path=path, error=str(error))
        return {}
    return {node.name: node for node in nodes}


def write_nodes(path: Path, nodes: Mapping[str, KnownNode]) -> None:
    """Write the nodes down, without what changes with each look."""
    values = [
        {**asdict(node), "node_id": "", "fault": "", "seen_at": 0.0} for node in nodes.values()
    ]
    _write(path, values)


def read_fenced(path: Path) -> dict[str, str]:
    """Return by replica the node on which it is to be ended before that node is used again."""
    try:
        values = json.loads(path.read_bytes())
        return {str(name): str(node) for name, node in values.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        _log.warning("ray.fenced-unreadable", path=path, error=str(error))
        return {}


def write_fenced(path: Path, fenced: Mapping[str, str]) -> None:
    """Write down who is fenced."""
    kept = dict(list(fenced.items())[-FENCED_MAX:])
    _write(path, kept)


def _write(path: Path, values: Iterable[object] | Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(values, indent=1).encode() + b"\n")
