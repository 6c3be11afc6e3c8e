"""Asks the picker and the replicas' hosts what they count. I/O; what does not answer is unknown."""

import asyncio
import math
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

import aiohttp

from skerry.plumbing.errors import Corrupt
from workload_plane.picker.counts import COUNTERS_BYTES_MAX, Counters, parse_counters
from workload_plane.picker.wire import COUNTERS_PATH, authz_socket
from workload_plane.replica_host.load import BUCKETED, BUCKETS_MAX, Buckets, EngineLoad
from workload_plane.replicas.records import ReplicaRecord

ANSWER_SECONDS_MAX = 1.0  # both are on this host, or one hop away
ASKED_AT_ONCE_MAX = 64  # a plane of a thousand replicas asks them all within a second
_COUNTS = tuple(
    field.name for field in fields(EngineLoad) if field.name not in ("answered", *BUCKETED)
)


class PickerAsked:
    """The picker, asked over its own socket."""

    def __init__(self, directory: Path) -> None:
        """Remember where its sockets are; `ask` connects each time, for a picker may be anew."""
        self._path = str(authz_socket(directory))

    async def ask(self) -> Counters | None:
        """Return what the picker counted, None when it does not answer in time."""
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS_MAX),
                aiohttp.UnixConnector(self._path, force_close=True) as connector,
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"http://picker{COUNTERS_PATH}") as answer,
            ):
                if answer.status != 200:
                    return None
                return parse_counters(await _body(answer, COUNTERS_BYTES_MAX))
        except (aiohttp.ClientError, TimeoutError, OSError, Corrupt):
            return None


class HostsAsked:
    """Replica hosts, asked over HTTP at their health ports."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Use the agent's session."""
        self._session = session
        self._room = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def ask(self, records: Collection[ReplicaRecord]) -> dict[str, EngineLoad | None]:
        """Return each replica's load by name, None of one that did not answer."""
        answers = await asyncio.gather(*(self._ask(record) for record in records))
        return dict(zip((record.name for record in records), answers, strict=True))

    async def _ask(self, record: ReplicaRecord) -> EngineLoad | None:
        if not record.health_port:
            return None
        url = f"http://{record.host}:{record.health_port}/load"
        try:
            async with (
                self._room,
                asyncio.timeout(ANSWER_SECONDS_MAX),
                self._session.get(url) as answer,
            ):
                if answer.status != 200:
                    return None
                return parse_load(await answer.json())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None


def parse_load(values: object) -> EngineLoad:
    """Return a host's answer; what it does not say, or says wrongly, is not known."""
    if not isinstance(values, dict):
        raise ValueError("a load must be a JSON object")
    counts = {name: values.get(name) for name in _COUNTS}
    return EngineLoad(
        **{name: value if _is_count(value) else None for name, value in counts.items()},
        first_token_buckets=_buckets(values.get("first_token_buckets")),
        token_interval_buckets=_buckets(values.get("token_interval_buckets")),
        answered=values.get("answered") is True,
    )


def _buckets(value: object) -> Buckets | None:
    if not isinstance(value, list) or not 0 < len(value) <= BUCKETS_MAX:
        return None
    found: list[tuple[float, float]] = []
    for one in value:
        if not (isinstance(one, list) and len(one) == 2 and _is_count(one[1])):
            return None
        bound = math.inf if one[0] is None else one[0]
        if bound != math.inf and not _is_count(bound):
            return None
        found.append((float(bound), float(one[1])))
    return tuple(found) if found == sorted(found) and found[-1][0] == math.inf else None


def _is_count(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < 2**63  # type: ignore[operator]


async def _body(answer: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    data = bytearray()
    async for piece in answer.content.iter_any():
        data += piece
        if len(data) > bytes_max:
            raise Corrupt(f"an answer of more than {bytes_max} bytes")
    return bytes(data)
