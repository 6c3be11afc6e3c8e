"""The desired state in force: loaded at start, replaced only by what was accepted and stored.

The link offers, the convergence loop reads; nobody else changes it.
"""

import asyncio
from collections.abc import Callable

from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import UNKNOWN, Unknown
from skerry.plumbing import logs
from skerry.plumbing.errors import Corrupt
from workload_plane.desired_state.accept import Grant, Held, Refuse, decide
from workload_plane.desired_state.file import DesiredStateFile, UnreadableDesired
from workload_plane.desired_state.format import digest_in, parse

_log = logs.get_logger(__name__)


class DesiredHolder:
    """Holds what the plane was last told, in memory and on disk alike."""

    def __init__(self, plane: str, file: DesiredStateFile, changed: asyncio.Event) -> None:
        """Remember the plane's name, its file, and the event to set on every new state."""
        self._plane = plane
        self._file = file
        self._changed = changed
        self._lock = asyncio.Lock()
        self.state: DesiredState | Unknown = UNKNOWN
        self.seen: Version = NEVER
        self.fault: str | None = None
        self._digest = b""

    @property
    def digest(self) -> bytes:
        """Return the digest of what is in force, as it was sent.

        Empty when nothing is known or the disk needs it again: then the whole state is sent.
        """
        return self._digest if self.fault is None else b""

    @property
    def version(self) -> Version:
        """Return the version in force, NEVER when nothing is known."""
        return NEVER if isinstance(self.state, Unknown) else self.state.version

    def load(self) -> None:
        """Take what the disk holds; with nothing readable the state stays unknown, never empty."""
        self._file.prepare()
        try:
            loaded = self._file.load()
        except UnreadableDesired as error:
            self.fault, self.seen = str(error), error.seen
            _log.error("desired.unreadable", fault=str(error), seen=error.seen)
            return
        if loaded is None:
            return
        self.state, self.seen, self.fault = loaded.stored.state, loaded.seen, loaded.fault
        self._digest = digest_in(loaded.stored.payload)
        if loaded.fault:
            _log.error("desired.previous-used", fault=loaded.fault, version=self.version)

    async def stored(self) -> bytes:
        """Return what is in force as it was stored, byte for byte; empty when nothing is known."""
        if isinstance(self.state, Unknown):
            return b""
        loaded = await asyncio.to_thread(self._file.load)
        return loaded.stored.payload if loaded is not None else b""

    async def offer(
        self, payload: bytes, running: Callable[[], frozenset[Grant]]
    ) -> DesiredState | Refuse:
        """Return the state in force once the payload is accepted and durable, or the refusal."""
        try:
            offered = parse(payload).state
        except Corrupt as error:
            return Refuse(reason=str(error))
        async with self._lock:
            held = None if isinstance(self.state, Unknown) else self.state
            facts = Held(plane=self._plane, state=held, seen=self.seen, running=running())
            verdict = decide(offered, facts)
            if isinstance(verdict, Refuse):
                return verdict
            if not verdict.changed and self.fault is None:
                return offered
            try:
                # fsync may take seconds on a busy disk: heartbeats go on meanwhile.
                await asyncio.to_thread(self._file.store, payload)
            except (OSError, Corrupt) as error:
                return Refuse(reason=f"it could not be made durable: {error}", may_pass=True)
            self.state, self.seen, self.fault = offered, offered.version, None
            self._digest = digest_in(payload)
            self._changed.set()
        return offered
