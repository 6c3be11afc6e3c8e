"""The gateway's log on the disk: taken over piece by piece, with what the gateway says of it.

Envoy is told to open its log again after it was renamed. Lines that it holds in memory then go into
the new file, so that is done twice: after the second time all that was logged before the first is
in the renamed pieces. Where there is nothing in the file and nothing in memory, nothing is done.
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from skerry.fleet.residency import Row, Seen
from skerry.plumbing.clock import Clock
from workload_plane.gateway.served_log import SERVED_LOG
from workload_plane.residency.rollup import History, Look, roll_up

# A request is a line of 45 bytes: six million of them, which an agent that was away reads in half a
# minute. What is more is not read, and not proven.
LOG_BYTES_MAX = 256 * 1024 * 1024
_LINE_BYTES_MAX = 4096
_ADMIN_SECONDS = 2.0
_ADMIN_BYTES_MAX = 64 * 1024 * 1024
_OPEN_SECONDS_MAX = 3.0  # takes a millisecond
_OPEN_LOOK_SECONDS = 0.01
_BUFFERED = "filesystem.write_total_buffered"
_STATS = (
    r"^(filesystem\.(write_failed|reopen_failed|write_total_buffered)"
    r"|listener_manager\.total_(filter_chains|listeners)_draining)$"
)
_PIECE = re.compile(re.escape(SERVED_LOG) + r"\.(\d{1,15})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was taken over: how the gateway is, and the requests by row."""

    look: Look
    rows: Counter[Row]


class ServedLog:
    """The pieces of one gateway's log."""

    def __init__(self, gateway_dir: Path, admin_port: int, clock: Clock) -> None:
        """Touch nothing yet; the admin listens on loopback."""
        self._folder = gateway_dir.resolve()
        self._path = self._folder / SERVED_LOG
        self._admin = f"http://127.0.0.1:{admin_port}"
        self._clock = clock

    @property
    def has_lines(self) -> bool:
        """Say whether something was logged, or the log is gone."""
        try:
            return self._path.stat().st_size > 0
        except FileNotFoundError:
            return True

    async def take(
        self, session: aiohttp.ClientSession, seen: Seen, history: History
    ) -> Taken | None:
        """Take over what was logged; None while the gateway does not answer.

        The pieces stay until `drop`: whoever dies before its record is written reads them again.
        """
        at = self._clock.now()
        try:
            stats = await self._stats(session)  # of one that is dead nothing is renamed
            why = self._replaced(seen)
            for _ in range(2):
                if self._is_idle(stats):
                    break
                fault = await self._again(session, seen)
                why, stats = why or fault, await self._stats(session)
            info = await self._get(session, "/server_info")
            now = self._clock.now()
            uptime_seconds = float(info["uptime_current_epoch"].removesuffix("s"))
            listeners = await self._get(session, "/config_dump?resource=dynamic_listeners")
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, AttributeError):
            return None
        pieces = self._pieces()
        first = seen.segment + 1
        if pieces != list(range(first, first + len(pieces))):
            why = why or "a piece of the gateway's log is missing"
        rows, fault = await asyncio.to_thread(self._read, pieces, history)
        look = Look(
            at_ms=_ms(at.timestamp()),
            run_ms=_ms(now.timestamp() - uptime_seconds),
            failed=stats["filesystem.write_failed"] + stats["filesystem.reopen_failed"],
            has_log=_all_log(listeners, str(self._path)),
            is_draining=any(count for name, count in stats.items() if name.endswith("_draining")),
            segment=max(pieces, default=seen.segment),
            inode=self._inode(),
            why=why or fault,
        )
        return Taken(look=look, rows=rows)

    def drop(self, segment: int) -> None:
        """Remove the pieces up to a number: a record of them is written."""
        for number in self._pieces():
            if number <= segment:
                self._piece(number).unlink(missing_ok=True)

    def _replaced(self, seen: Seen) -> str:
        inode = self._inode()
        if inode == seen.inode or not seen.run_ms:
            return "" if inode or not seen.run_ms else "the gateway's log is gone"
        # Our own, of a run that died before it wrote its record.
        if any(_inode(self._piece(number)) == seen.inode for number in self._pieces()):
            return ""
        return "the gateway's log was removed" if not inode else "the gateway's log was replaced"

    def _is_idle(self, stats: Mapping[str, int]) -> bool:
        """Say whether there is nothing to be read, nor in Envoy's memory.

        One that never wrote a line opens no file again before the first.
        """
        return not self.has_lines and not stats[_BUFFERED]

    async def _again(self, session: aiohttp.ClientSession, seen: Seen) -> str:
        """Rename the log and have it opened again; return why that did not work."""
        number = max([*self._pieces(), seen.segment]) + 1
        if self._path.exists():
            os.replace(self._path, self._piece(number))
        async with asyncio.timeout(_ADMIN_SECONDS):
            async with session.post(f"{self._admin}/reopen_logs") as response:
                response.raise_for_status()
        deadline = self._clock.monotonic() + _OPEN_SECONDS_MAX
        while not self._path.exists():
            if self._clock.monotonic() > deadline:
                return "the gateway did not open its log again"
            await self._clock.sleep(_OPEN_LOOK_SECONDS)
        return ""

    async def _stats(self, session: aiohttp.ClientSession) -> dict[str, int]:
        answer = await self._get(session, f"/stats?format=json&filter={quote(_STATS, safe='')}")
        found = {one["name"]: int(one["value"]) for one in answer["stats"] if "name" in one}
        if not found.keys() >= {_BUFFERED, "filesystem.write_failed", "filesystem.reopen_failed"}:
            raise ValueError("not the answer of an Envoy admin")
        return found

    async def _get(self, session: aiohttp.ClientSession, path: str) -> Any:
        async with asyncio.timeout(_ADMIN_SECONDS):
            async with session.get(f"{self._admin}{path}") as response:
                response.raise_for_status()
                if (response.content_length or 0) > _ADMIN_BYTES_MAX:
                    raise ValueError("the admin's answer is too large")
                return await response.json(content_type=None)

    def _read(self, pieces: list[int], history: History) -> tuple[Counter[Row], str]:
        left = LOG_BYTES_MAX
        rows: Counter[Row] = Counter()
        odd = 0
        for number in pieces:
            path = self._piece(number)
            left -= path.stat().st_size
            if left < 0:
                return rows, f"the gateway logged more than {LOG_BYTES_MAX >> 20} MiB unread"
            with path.open("rb") as file:
                found, unread = roll_up(_lines(iter(lambda: file.read(1 << 20), b"")), history)
            rows += found
            odd += unread
        return rows, f"{odd} lines of the gateway's log cannot be read" if odd else ""

    def _pieces(self) -> list[int]:
        found = (_PIECE.fullmatch(path.name) for path in self._folder.glob(f"{SERVED_LOG}.*"))
        return sorted(int(one[1]) for one in found if one)

    def _piece(self, number: int) -> Path:
        return self._folder / f"{SERVED_LOG}.{number}"

    def _inode(self) -> int:
        return _inode(self._path)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            yield rest[:_LINE_BYTES_MAX]  # odd
            rest = b""
        yield from lines
    if rest:
        yield rest


def _all_log(answer: Any, path: str) -> bool:
    """Say whether each listener that serves or drains has the log."""
    listeners = answer.get("configs", [])
    states = [
        one[state]
        for one in listeners
        for state in ("active_state", "draining_state")
        if state in one
    ]
    return bool(states) and all(path in _strings(state) for state in states)


def _strings(value: Any) -> set[str]:
    match value:
        case dict():
            return set().union(*(_strings(inner) for inner in value.values()))
        case list():
            return set().union(*(_strings(inner) for inner in value))
        case str():
            return {value} if len(value) < _LINE_BYTES_MAX else set()
    return set()


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
