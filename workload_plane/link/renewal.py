"""The plane's certificate while the agent runs: renewed at half its life, got back once it ended.

Over the link as long as that is up, which goes on with what it was opened with; by the plane's key
on the join port when the certificate has ended. Nothing that serves waits for any of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc

from skerry.client.enrolment import Door, certificate_times, rejoin, renew
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import TlsFiles

_log = logs.get_logger(__name__)

# Between looks at the certificate: a person may have put another one there.
LOOK_SECONDS = 60.0
# After a failure; half of a month's life is left for thousands of them, half of a minute's for ten.
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Which plane renews, its files, and where it comes back when they count no more."""

    project: str
    plane: str
    files: TlsFiles
    door: Door


class Renewal:
    """Keeps the certificate of a plane that joined by invitation."""

    def __init__(
        self,
        member: Member,
        channel: Callable[[], grpc.aio.Channel | None],
        clock: Clock,
        ids: IdSource,
    ) -> None:
        """Remember all; `channel` is the link's while a control plane welcomes us there."""
        self._member = member
        self._channel = channel
        self._clock = clock
        self._ids = ids
        self.last_error = ""

    async def run(self) -> None:
        """Renew whenever it is time, for ever."""
        retry_seconds = RETRY_SECONDS_MIN
        while True:
            try:
                left_seconds = await self._look()
            except (SkerryError, OSError, ValueError) as error:
                self._failed(str(error))
                # Planes that were told off together do not come back together.
                left_seconds = retry_seconds * (0.5 + self._ids.random())
                retry_seconds = min(2 * retry_seconds, RETRY_SECONDS_MAX)
            else:
                self.last_error, retry_seconds = "", RETRY_SECONDS_MIN
            await self._clock.sleep(left_seconds)

    async def _look(self) -> float:
        """Renew if it is time, and return in how many seconds to look again."""
        member = self._member
        times, now = certificate_times(member.files.cert), self._clock.now()
        if now < times.due_at:
            return min((times.due_at - now).total_seconds(), LOOK_SECONDS)
        channel = self._channel()
        if channel is not None:
            await _unless_closed(renew(channel, member.project, member.plane, member.files))
        elif now >= times.ends_at:
            await rejoin(member.door, member.project, member.plane, member.files)
        else:
            raise Unavailable("the certificate is due, and no control plane is linked to renew it")
        ends_at = certificate_times(member.files.cert).ends_at
        _log.info("certificate.renewed", plane=member.plane, until=ends_at)
        return 0.0

    def _failed(self, error: str) -> None:
        if error != self.last_error:
            _log.warning("certificate.not-renewed", plane=self._member.plane, error=error)
        self.last_error = error


async def _unless_closed(call: Awaitable[None]) -> None:
    """Await a call on a channel that its owner may close, which cancels the call and not us."""
    try:
        await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Unavailable("the link was lost while the certificate was renewed") from None
