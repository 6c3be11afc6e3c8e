"""Rolls the gateway's log up into the ledger, and says what the control plane was not told yet.

A loop of the agent. The gateway logs on while it is dead; the next one reads all of it, and proves
it where the gateway was the same all along.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from skerry.fleet.change_chain import Link
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import Unknown
from skerry.fleet.residency import Record
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.ids import IdSource
from workload_plane.gateway.served_log import SERVED_LOG
from workload_plane.residency.instruments import UNPROVED
from workload_plane.residency.ledger import Ledger
from workload_plane.residency.rollup import (
    History,
    Terms,
    forgotten,
    next_records,
    noted,
    terms_of,
)
from workload_plane.residency.served import ServedLog, Taken

_log = logs.get_logger(__name__)

LEDGER = "ledger.jsonl"
LOOK_SECONDS = 1.0
# A record a minute while there are requests, else one in ten: it says that there were none.
TURN_SECONDS, QUIET_SECONDS = 60.0, 600.0
# Another policy ends a record early, but no more often than this.
CHANGED_SECONDS = 5.0
# Envoy goes on by its last files then, and nobody knows by which policies.
NO_STATE = "the agent did not know the plane's desired state"
CHECK_TURNS = 60  # of turns between looks at the whole file


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """By what requests may go: the plane's own zones, and the desired state in force."""

    own: tuple[str, ...]
    desired: Callable[[], DesiredState | Unknown]


class ResidencyKeeper:
    """One plane's ledger and the turns by which it grows."""

    def __init__(
        self,
        folder: Path,
        served: ServedLog,
        rules: Rules,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        """Open nothing yet."""
        self._ledger = Ledger(folder / LEDGER, ids)
        self._served = served
        self._rules = rules
        self._known: tuple[DesiredState | Unknown, Terms] | None = None
        self._clock = clock
        self._history: History = ()
        self._is_open = False
        self._turned_at: float | None = None
        self._turns = 0
        self._is_changed = False
        self._is_blind = False  # at some moment since the last turn no desired state was known
        self._writing = asyncio.Lock()
        self.news = asyncio.Event()  # set whenever there is more to be told

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Take a turn whenever one is due, for ever."""
        while True:
            self.note()
            if self._is_due():
                try:
                    await self.turn(session)
                except (OSError, Corrupt) as error:  # a full disk: the log waits for room
                    _log.warning("residency.not-recorded", error=str(error))
            await self._clock.sleep(LOOK_SECONDS)

    def note(self) -> None:
        """Note which terms are in force now."""
        desired = self._rules.desired()
        self._is_blind = self._is_blind or isinstance(desired, Unknown)
        if self._known is None or self._known[0] is not desired:
            self._known = (desired, terms_of(self._rules.own, desired))
        before, now = self._history, self._known[1]
        self._history = noted(before, now, self._now_ms())
        if before and not before[-1][1].has_rules_of(now):
            self._is_changed = True

    async def turn(self, session: aiohttp.ClientSession) -> None:
        """Write down what the gateway logged since the last turn; OSError where that fails."""
        async with self._writing:
            self._turned_at = self._clock.monotonic()
            await asyncio.to_thread(self._prepare)
            taken = await self._served.take(session, self._ledger.newest.seen, self._history)
            if taken is None:
                return  # what comes of it shows when it answers again
            if self._is_blind and not taken.look.why:
                taken = replace(taken, look=replace(taken.look, why=NO_STATE))
            await asyncio.to_thread(self._write, taken)
            self._is_blind = isinstance(self._rules.desired(), Unknown)
            self._is_changed = False
            self._history = forgotten(self._history, taken.look.at_ms)
        self.news.set()

    async def after(self, chain: str, sequence: int) -> tuple[str, tuple[Link, ...]]:
        """Return the chain in force, and what follows a record of it; all for another chain."""
        async with self._writing:
            await asyncio.to_thread(self._prepare)
            ours = self._ledger.newest
            if chain == ours.chain and sequence > ours.sequence:
                why = f"the records from {ours.sequence + 1} to {sequence} were removed"
                await asyncio.to_thread(self._begin_anew, why, ours.to_ms)
                ours = self._ledger.newest
            start = sequence if chain == ours.chain else 0
            return ours.chain, self._ledger.after(start)

    async def refused(self, chain: str, fault: str) -> None:
        """Begin a new chain where the control plane holds another of that name."""
        async with self._writing:
            if self._is_open and chain == self._ledger.newest.chain:
                why = f"the control plane was told otherwise before: {fault}"
                await asyncio.to_thread(self._begin_anew, why, self._ledger.newest.to_ms)

    def _is_due(self) -> bool:
        if self._turned_at is None:
            return True
        since = self._clock.monotonic() - self._turned_at
        if self._is_changed and since >= CHANGED_SECONDS:
            return True
        if since < TURN_SECONDS:
            return False
        last = self._ledger.newest if self._is_open else None
        is_quiet = last is not None and not last.why and not self._served.has_lines
        if not is_quiet or last is None:
            return True
        return self._now_ms() - last.to_ms >= QUIET_SECONDS * 1000

    def _prepare(self) -> None:
        if not self._is_open:
            self._ledger.open(self._now_ms())
            self._is_open = True

    def _write(self, taken: Taken) -> None:
        self._turns += 1
        if self._turns % CHECK_TURNS == 0:
            self._ledger.check(self._now_ms())
        newest = self._ledger.newest
        records = next_records(newest, self._ledger.began_ms, taken.look, taken.rows)
        self._ledger.append(records, self._now_ms())
        self._served.drop(taken.look.segment)
        _tell(records)

    def _begin_anew(self, why: str, from_ms: int) -> None:
        _log.error("residency.begun-anew", why=why)
        self._ledger.begin_anew(why, self._now_ms(), from_ms)

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _tell(records: tuple[Record, ...]) -> None:
    for record in records:
        if record.why:
            UNPROVED.inc((record.to_ms - record.from_ms) / 1000)
            _log.warning("residency.unproved", why=record.why, log=SERVED_LOG)
