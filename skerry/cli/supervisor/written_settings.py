"""What settings files of a data directory say already: `skerry up` keeps the operator's part of it.

`settings_files.py` and `pki.py` read them before they write anything.
"""

import json
from pathlib import Path
from typing import Any


def section_of(path: Path, name: str) -> Any:
    """Return what a settings file holds under the name, None without it."""
    try:
        written = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # the first start; or damaged, and then written anew
    return written.get(name) if isinstance(written, dict) else None
