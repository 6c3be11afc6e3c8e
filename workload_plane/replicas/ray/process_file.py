"""The file that names the Ray processes of a plane's own: for its agent, and for `skerry down`."""

import json
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.processes import ProcessRecord

_log = logs.get_logger(__name__)


def read_process_file(path: Path) -> dict[str, ProcessRecord]:
    """Return the recorded processes by the node's name, alive or not; none without a file."""
    try:
        values = json.loads(path.read_bytes())
        return {str(name): ProcessRecord.from_json(value) for name, value in values.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, InvalidInput) as error:
        _log.warning("ray.processes-unreadable", path=path, error=str(error))
        return {}
