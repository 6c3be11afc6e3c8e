"""grpc.health.v1 of a control plane: what it says follows whether the control plane leads.

`serving.py` adds it to every gRPC port, `main.py` holds the Standing. Not the servicer of
grpcio-health-checking: there, one Watch that ends silences every other Watch of the same name.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from enum import Enum
from typing import Any

from grpc_health.v1 import health_pb2

from control_plane.store.engine import Database
from control_plane.store.leadership import leading_epoch
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Exhausted, NotFound, SkerryError, StaleGeneration

_log = logs.get_logger(__name__)

# The name to ask for when any control plane that answers reads will do; "" and the services'
# own names are for who writes, too.
READS = "skerry.reads"
# Load balancers and clients each hold one; past this somebody forgets to close them.
WATCHES_MAX = 1_000
# A deposed leader without planes writes nothing by itself, so nothing else would tell it.
LOOK_SECONDS = 1.0

_Status = int  # of the enum HealthCheckResponse.ServingStatus


class Role(Enum):
    """What a control plane is to its callers."""

    LEADING = "leading"
    STANDING_BY = "standing by"
    STOPPING = "stopping"


class Standing:
    """Holds the role of one control plane, and wakes who watches it."""

    def __init__(self, role: Role) -> None:
        """Begin in this role."""
        self._role = role
        self._changed = asyncio.Event()

    @property
    def role(self) -> Role:
        """Return what this control plane is now."""
        return self._role

    def next_change(self) -> asyncio.Event:
        """Return what is set at the next change; take it before looking at the role."""
        return self._changed

    def become(self, role: Role) -> None:
        """Change the role and tell who watches; who stops goes on stopping."""
        if self._role in (role, Role.STOPPING):
            return
        _log.info("standing.changed", before=self._role.value, after=role.value)
        self._role = role
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class HealthService:
    """Answers for the services of one port, by where the control plane stands."""

    def __init__(self, standing: Standing, services: Iterable[str]) -> None:
        """Answer for these services, for all by an empty name, and for reads."""
        self._standing = standing
        self._names = frozenset({"", READS, *services})
        self._watches = 0

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Return whether the service serves now; NotFound for a name that is no service here."""
        if request.service not in self._names:
            named = ", ".join(sorted(self._names - {""}))
            raise NotFound(f"no such service here; there are {named}, and all by an empty name")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Stream whether the service serves, now and at every change, without end."""
        if self._watches >= WATCHES_MAX:
            raise Exhausted(f"{WATCHES_MAX} watches of health are open; end one, or use Check")
        self._watches += 1
        try:
            told: _Status | None = None
            while True:
                # Taken before the look: a change in between must not be slept through.
                changed = self._standing.next_change()
                status = self._status(request.service)
                if status != told:
                    yield health_pb2.HealthCheckResponse(status=status)
                    told = status
                await changed.wait()
        finally:
            self._watches -= 1

    def _status(self, service: str) -> _Status:
        if service not in self._names:
            return int(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        return status_of(self._standing.role, service)


def status_of(role: Role, service: str) -> _Status:
    """Return what a control plane in this role says of a service."""
    serves = role is Role.LEADING or (role is Role.STANDING_BY and service == READS)
    response = health_pb2.HealthCheckResponse
    return int(response.SERVING if serves else response.NOT_SERVING)


def why_not_ready(role: Role, has_decided: bool) -> str:
    """Return what `/readyz` is to complain of, empty when the control plane is ready."""
    if role is not Role.LEADING:
        return f"this control plane does not lead; it is {role.value}"
    return "" if has_decided else "the first reconcile turn is not over yet"


async def follow_leadership(
    standing: Standing, database: Database, epoch: int, clock: Clock
) -> None:
    """Look at who leads, for ever; StaleGeneration for another, of which `standing` hears first."""
    while True:
        await clock.sleep(LOOK_SECONDS)
        try:
            leading = await database.run_read(leading_epoch)
        except SkerryError:
            continue  # not known: whoever leads, nobody can write to this database now
        if leading != epoch:
            standing.become(Role.STANDING_BY)
            raise StaleGeneration(
                f"another control plane leads, in epoch {leading}; ours was {epoch}"
            )
