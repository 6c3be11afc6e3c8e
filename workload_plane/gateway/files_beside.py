"""Files beside the gateway's own, by which the front, the relay and the picker know what runs.

`feed` writes them with the gateway's; each only when it says something new.
"""

import asyncio
import json
from pathlib import Path

from skerry.plumbing.files import write_atomically
from workload_plane.settings import PlaneSettings

_INDENT = 1  # people read them; the picker's is for its process alone, and the largest


class FilesBeside:
    """What each of them was told last in this run."""

    def __init__(self, settings: PlaneSettings) -> None:
        """Write where the settings say; nothing is written yet."""
        self._settings = settings
        self._told: dict[Path, dict[str, object]] = {}

    async def write_endpoints(self, values: dict[str, object]) -> None:
        """Tell the front which replicas there are."""
        await self._write(self._settings.endpoints_path, values, _INDENT)

    async def write_relay(self, values: dict[str, object] | None) -> None:
        """Tell the relay which deployments it continues.

        None: without one there is nothing to tell, and no relay is started; what was told before
        is of no harm.
        """
        if values is not None:
            await self._write(self._settings.relay_path, values, _INDENT)

    async def write_picker(self, values: dict[str, object]) -> None:
        """Tell the picker what the plane serves."""
        await self._write(self._settings.picker_path, values, None)

    async def _write(self, path: Path, values: dict[str, object], indent: int | None) -> None:
        if self._told.get(path) == values:
            return
        data = json.dumps(values, indent=indent).encode()
        await asyncio.to_thread(write_atomically, path, data)
        self._told[path] = values
