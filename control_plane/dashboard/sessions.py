"""Who is signed in: a random id in a cookie stands for a credential that stays here, in memory.

`site.py` opens and finds them. A restart of the control plane signs everybody out.
"""

from collections import OrderedDict
from dataclasses import dataclass

from control_plane.dashboard.reading import Reader
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.context import Context
from skerry.fleet.access import Principal
from skerry.plumbing.errors import Exhausted
from skerry.plumbing.ids import IdSource

# A working day, and a morning's absence within it.
SESSION_SECONDS_MAX = 12 * 3_600.0
IDLE_SECONDS_MAX = 4 * 3_600.0
# Each holds a connection and the last answers of some pages, about 2 MB of a large fleet.
SESSIONS_MAX = 64
# Tabs of one operator: browsers open six connections to a host, and a page needs some of them. The
# control plane has 100 watchers for everybody.
STREAMS_MAX = 4
_SECRET_BYTES = 32


@dataclass(slots=True, kw_only=True)
class Session:
    """One sign-in; the context's token is empty where nobody is asked for one."""

    id: str
    form_secret: str  # in every form of this session: a foreign page cannot know it
    context: Context  # with the credential
    claimed: str  # the actor where no credential says who it is
    actor: str  # as it is recorded
    principal: Principal  # as it was found last
    ids: IdSource
    client: AsyncOperatorClient
    reader: Reader
    began: float
    used: float
    streams: int = 0
    notice: str = ""  # what came of the last action, told on the next page


class Sessions:
    """The sessions of one dashboard, by id."""

    def __init__(self, ids: IdSource) -> None:
        """Begin with nobody signed in."""
        self._ids = ids
        self._held: OrderedDict[str, Session] = OrderedDict()

    def secret(self) -> str:
        """Return a new secret."""
        return self._ids.token(_SECRET_BYTES)

    async def add(self, session: Session) -> None:
        """Hold a session; Exhausted when as many are in use as there may be."""
        for gone in [one for one in self._held.values() if _is_over(one, session.began)]:
            await self.end(gone.id)
        if len(self._held) >= SESSIONS_MAX:
            await session.client.close()
            raise Exhausted(f"{SESSIONS_MAX} operators are signed in; sign one out")
        self._held[session.id] = session

    async def find(self, told: str, now: float) -> Session | None:
        """Return the session of an id, None where there is none or its time is over."""
        session = self._held.get(told)
        if session is None:
            return None
        if _is_over(session, now):
            await self.end(told)
            return None
        session.used = now
        return session

    async def end(self, told: str) -> None:
        """Forget a session and its credential."""
        session = self._held.pop(told, None)
        if session is not None:
            await session.client.close()

    async def close(self) -> None:
        """Forget all."""
        for told in tuple(self._held):
            await self.end(told)


def _is_over(session: Session, now: float) -> bool:
    return now - session.began > SESSION_SECONDS_MAX or now - session.used > IDLE_SECONDS_MAX
