"""PlaneLinkService: one stream per plane, heartbeats both ways, the newest desired state out.

The plane proves its name by the URI in its certificate; a name in a message alone proves nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from control_plane.link.convert import message_of
from control_plane.link.push import Outbox
from control_plane.link.registry import Registry
from control_plane.link.session import IllegalTransition, Session, SessionEvent
from control_plane.reconcile.policy import ReconcilePolicy
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Denied, InvalidInput
from skerry.plumbing.rpc import peer_uri_sans
from skerry.wire.observations import report_from_proto
from skerry.wire.supply import version_from_proto

_log = logs.get_logger(__name__)

HELLO_SECONDS_MAX = 5.0  # a stream that says nothing is not a plane
CLOSED = None  # in the queue of answers: the stream is over


def plane_uri(project: str, plane: str) -> str:
    """Return the URI that a plane's certificate must carry."""
    return f"skerry://projects/{project}/planes/{plane}"


class PlaneLink(plane_service_pb2_grpc.PlaneLinkServiceServicer):
    """The control plane's end of every link."""

    def __init__(
        self, registry: Registry, policy: ReconcilePolicy, clock: Clock, *, name: str, epoch: int
    ) -> None:
        self._registry = registry
        self._policy = policy
        self._clock = clock
        self._name = name
        self._epoch = epoch

    async def Connect(
        self, request_iterator: AsyncIterator[messages.ConnectRequest], context: Any
    ) -> AsyncIterator[messages.ConnectResponse]:
        """Serve one plane's stream until either side ends it or falls silent."""
        requests = aiter(request_iterator)
        session = Session()
        async with asyncio.timeout(HELLO_SECONDS_MAX):
            first = await anext(requests)
        if first.WhichOneof("message") != "hello":
            raise InvalidInput("the first message of a stream must be Hello")
        hello = first.hello
        _check_identity(hello, context)
        try:
            report = report_from_proto(hello.observed, tuple(hello.features), hello.software)
        except ValueError as error:
            raise InvalidInput(f"the plane's report cannot be used: {error}") from error
        plane = report.identity.name
        outbox = self._registry.open(report, hello.agent_id, self._policy.heartbeat_timeout_seconds)
        session.on(SessionEvent.HELLO)
        _log.info("plane.connected", plane=plane, held=report.held, agent=hello.agent_id)
        answers: asyncio.Queue[messages.ConnectResponse | None] = asyncio.Queue(maxsize=16)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._listen(plane, session, requests, answers)),
                    group.create_task(self._push(outbox, session, answers)),
                    group.create_task(self._watch(plane, answers)),
                ]
                yield self._welcome()
                while (answer := await answers.get()) is not CLOSED:
                    yield answer
                for task in tasks:
                    task.cancel()
        finally:
            self._registry.close(plane, outbox)
            _log.info("plane.disconnected", plane=plane)

    async def _listen(
        self,
        plane: str,
        session: Session,
        requests: AsyncIterator[messages.ConnectRequest],
        answers: asyncio.Queue[messages.ConnectResponse | None],
    ) -> None:
        """Take in what the plane says; answer each heartbeat with one."""
        async for request in requests:
            self._registry.hear(plane)
            kind = request.WhichOneof("message")
            try:
                if kind == "heartbeat":
                    beat = messages.Heartbeat(number=request.heartbeat.number)
                    await answers.put(messages.ConnectResponse(heartbeat=beat))
                elif kind == "observed":
                    self._observe(plane, request.observed)
                elif kind == "ack":
                    session.on(SessionEvent.ACK)
                    self._registry.acknowledge(plane, version_from_proto(request.ack.version))
                elif kind == "nack":
                    session.on(SessionEvent.NACK)
                    _log.warning("plane.refused", plane=plane, reason=request.nack.reason)
                    self._registry.refuse(plane, request.nack.reason)
                else:
                    raise IllegalTransition(f"{kind} makes no sense on a session that is up")
            except (ValueError, InvalidInput) as error:
                # One bad message costs itself, not the session: the plane's next report is whole.
                _log.warning("plane.message-refused", plane=plane, error=str(error))
        await answers.put(CLOSED)

    def _observe(self, plane: str, observed: messages.Observed) -> None:
        known = self._registry.view(plane).report
        features = known.features if known else ()
        report = report_from_proto(observed, features, known.software if known else "")
        if report.identity.name != plane:
            raise ValueError(f"the stream of {plane} reported for {report.identity.name}")
        self._registry.observe(report)

    async def _push(
        self,
        outbox: Outbox,
        session: Session,
        answers: asyncio.Queue[messages.ConnectResponse | None],
    ) -> None:
        while True:
            version, payload = await outbox.take()
            session.on(SessionEvent.PUSH)
            await answers.put(messages.ConnectResponse(desired=message_of(payload, version)))

    async def _watch(
        self, plane: str, answers: asyncio.Queue[messages.ConnectResponse | None]
    ) -> None:
        """End the stream of a plane that has said nothing for longer than its lease."""
        while True:
            await self._clock.sleep(self._policy.heartbeat_period_seconds)
            if self._registry.view(plane).silent_seconds > self._policy.lease_seconds:
                _log.warning("plane.silent", plane=plane)
                await answers.put(CLOSED)
                return

    def _welcome(self) -> messages.ConnectResponse:
        return messages.ConnectResponse(
            welcome=messages.Welcome(
                epoch=self._epoch,
                heartbeat_period_ms=round(self._policy.heartbeat_period_seconds * 1000),
                heartbeat_timeout_ms=round(self._policy.heartbeat_timeout_seconds * 1000),
                lease_ms=round(self._policy.lease_seconds * 1000),
                control_plane=self._name,
            )
        )


def _check_identity(hello: messages.Hello, context: Any) -> None:
    """Refuse a plane whose certificate does not carry the name it claims."""
    wanted = plane_uri(hello.project, hello.observed.identity.name)
    names = peer_uri_sans(context)
    if wanted not in names:
        shown = ", ".join(names) or "no name at all"
        raise Denied(f"the certificate of this plane carries {shown}, not {wanted}")
