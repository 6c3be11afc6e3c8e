"""Keeps what API keys used on disk, so that the next picker goes on from there.

Written when it changed, and no more often than every few seconds: what is lost with a picker that
is killed is what keys used since.
"""

import asyncio
from pathlib import Path

from skerry.fleet.token_budget import KeySpent
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.files import write_atomically
from workload_plane.picker.key_tokens import KeyTokens
from workload_plane.picker.spent_file import SPENT_BYTES_MAX, parse_spent, render_spent

_log = logs.get_logger(__name__)

KEEP_SECONDS = 5.0
_FILE_MODE = 0o600  # who used how much is nobody else's business


class Spending:
    """The file, and the counts that it is of."""

    def __init__(self, path: Path, tokens: KeyTokens, clock: Clock) -> None:
        """Nothing is read or written yet."""
        self._path = path
        self._tokens = tokens
        self._clock = clock
        self._kept: tuple[KeySpent, ...] = ()

    def restore(self) -> None:
        """Go on from the file; without one, or with a damaged one, from nothing used."""
        try:
            with self._path.open("rb") as file:
                self._kept = parse_spent(file.read(SPENT_BYTES_MAX))
        except FileNotFoundError:
            return
        except (OSError, SkerryError) as error:
            _log.error("keys.spent-unreadable", path=str(self._path), error=str(error))
            return
        self._tokens.restore(self._kept)

    async def keep_forever(self) -> None:
        """Write what changed every few seconds."""
        while True:
            await self._clock.sleep(KEEP_SECONDS)
            await asyncio.to_thread(self._write, self._tokens.kept())

    def keep(self) -> None:
        """Write what changed now; it waits for the disk."""
        self._write(self._tokens.kept())

    def _write(self, kept: tuple[KeySpent, ...]) -> None:
        if kept == self._kept:
            return
        try:
            write_atomically(self._path, render_spent(kept), mode=_FILE_MODE)
        except OSError as error:
            _log.error("keys.spent-not-kept", path=str(self._path), error=str(error))
            return
        self._kept = kept
