"""The revoked planes that a plane was told last, for when a desired state says nothing of them.

A control plane of an earlier release knows of none: that is no word for letting them in again.
`feed` asks before it publishes.
"""

import json
from dataclasses import replace
from pathlib import Path

from skerry.fleet.desired import DesiredState
from skerry.plumbing import logs
from skerry.plumbing.files import write_atomically

_log = logs.get_logger(__name__)

REVOKED_FILE = "revoked.json"
_FILE_MODE = 0o600


class KnownRevoked:
    """The planes told last, in memory and in a file; it waits for the disk."""

    def __init__(self, directory: Path) -> None:
        """Keep the file in this directory; nothing is read yet."""
        self._path = directory / REVOKED_FILE
        self._known: tuple[str, ...] | None = None
        self._kept: tuple[str, ...] | None = None

    def with_revoked(self, desired: DesiredState) -> DesiredState:
        """Return the desired state with who is revoked, and keep those that it tells."""
        told = desired.revoked_planes
        if self._known is None:
            self._known = self._kept = self._read()
        if told is None:
            return replace(desired, revoked_planes=self._known)
        self._known = told
        if told != self._kept:
            try:
                write_atomically(self._path, json.dumps(told).encode(), mode=_FILE_MODE)
                self._kept = told
            except OSError as error:  # what is told counts, and is kept once there is room
                _log.error("gateway.revoked-not-kept", error=str(error), path=str(self._path))
        return desired

    def _read(self) -> tuple[str, ...] | None:
        try:
            names = json.loads(self._path.read_bytes())
            if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
                raise ValueError("it is no list of names")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            _log.error("gateway.revoked-unreadable", error=str(error), path=str(self._path))
            return None
        return tuple(names)
