"""What the relay knows of the deployments whose streams it carries: relay.json, from the agent.

The last readable content stays in force, so streams are continued with the agent dead. A deployment
that is not in it is carried all the same, and what it has not begun to answer is asked again.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.watched_file import Unread, WatchedFile
from skerry.wire.continuation.dialects import Dialect, dialect_of

RELAY_FORMAT = 1
LOOK_SECONDS = 0.5
FILE_BYTES_MAX = 4 * 1024 * 1024


def parse_relay_file(data: bytes) -> dict[str, str]:
    """Return the engine of each deployment; raises Corrupt for anything but the agent's file."""
    try:
        values = json.loads(data)
        if values["format"] != RELAY_FORMAT:
            raise ValueError(f"format {values['format']!r} is not {RELAY_FORMAT}")
        return {str(entry["deployment"]): str(entry["engine"]) for entry in values["deployments"]}
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"not a relay file: {error!r}") from None


class KnownDeployments:
    """Follows the file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Read the file once; without one nothing is known."""
        self._file = WatchedFile(path, parse_relay_file, bytes_max=FILE_BYTES_MAX, name="relay")
        self._clock = clock
        self._engines: Mapping[str, str] = {}
        self.look()

    def dialect(self, deployment: str) -> Dialect:
        """Return how the deployment's engine is asked to go on."""
        return dialect_of(self._engines.get(deployment, ""))

    def engine(self, deployment: str) -> str:
        """Return the name of the deployment's engine, "" where it is not known."""
        return self._engines.get(deployment, "")

    def label(self, deployment: str) -> str:
        """Return the deployment's name for metrics, bounded to those that are known."""
        return deployment if deployment in self._engines else "unknown"

    async def follow(self) -> None:
        """Look twice a second for ever."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Read the file if it changed; what is absent or damaged changes nothing."""
        found = self._file.look()
        if not isinstance(found, Unread):
            self._engines = found
