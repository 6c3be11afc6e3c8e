"""One stream to one control plane, from Hello to its end: reads, writes and judges it.

`client.py` makes one for each connection and holds it until it raises why it ended.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import PlaneReport
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.rpc import TlsFiles, from_rpc_error
from skerry.plumbing.tasks import first_of
from skerry.wire.observations import report_to_proto
from skerry.wire.supply import version_to_proto
from workload_plane.desired_state.accept import Refuse
from workload_plane.link.session import (
    WELCOME_SECONDS_MAX,
    Judgement,
    Pulse,
    SessionEvent,
    SessionState,
    Terms,
    accepts_pushes,
    advance,
    heard,
    heartbeat_sent,
    judge,
    terms_of,
)
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

_log = logs.get_logger(__name__)

# Changes come in bursts (ten replicas turn READY); one report tells them all.
REPORT_SECONDS_MIN = 0.2
# A lost or coalesced change costs at most this.
REPORT_SECONDS_MAX = 5.0
ANSWERS_MAX = 8  # pushes are coalesced to the newest, so more answers than these never wait
JUDGEMENTS_PER_PERIOD = 4  # silence is noticed at most a quarter of a heartbeat late


class PlaneSide(Protocol):
    """What the link asks of the agent."""

    @property
    def planes(self) -> int:
        """Return how many planes the fleet has, as far as this one was told."""
        ...

    def report(self) -> PlaneReport:
        """Return the plane's report as of now."""
        ...

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        """Return the state once it is accepted and durable, or why it is refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Whom to call, as whom: the control planes in turn, our certificate, project and run.

    Whoever answers must prove to be `server_name`: the authority signs the planes too.
    """

    control_planes: tuple[str, ...]
    tls: TlsFiles
    project: str
    agent_id: str
    server_name: str = CONTROL_PLANE_SERVER_NAME


class Connection:
    """One stream's state: session, pulse, what waits to be sent, the newest offer."""

    def __init__(
        self,
        stream: Any,
        settings: LinkSettings,
        side: PlaneSide,
        changed: asyncio.Event,
        clock: Clock,
    ) -> None:
        """Take the stream as grpc.aio made it; nothing is sent before `hold`."""
        self._stream = stream
        self._settings = settings
        self._side = side
        self._changed = changed
        self._clock = clock
        self._terms = Terms()
        self._pulse = Pulse(heard_at=clock.monotonic())
        self._answers: deque[messages.ConnectRequest] = deque(maxlen=ANSWERS_MAX)
        self._answered = asyncio.Event()
        self._offered: messages.Desired | None = None
        self._offer_came = asyncio.Event()
        self._welcome_came = asyncio.Event()
        self._may_report_at = 0.0
        self.state = advance(SessionState.IDLE, SessionEvent.DIALLED)
        self.control_plane = ""

    @property
    def was_welcomed(self) -> bool:
        """Return whether the control plane ever answered Hello with Welcome."""
        return self._welcome_came.is_set()

    async def hold(self) -> None:
        """Keep the stream going; returns never, raises the kind of error that ended it."""
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._read(), self._write(), self._answer_offers(), self._watch()):
                    group.create_task(work)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        except ExceptionGroup as group_error:
            raise _reason(group_error) from None
        finally:
            self.state = advance(self.state, SessionEvent.LOST)
            self._stream.cancel()

    async def _read(self) -> None:
        while (answer := await self._stream.read()) is not grpc.aio.EOF:
            kind = answer.WhichOneof("message")
            number = answer.heartbeat.number if kind == "heartbeat" else None
            self._pulse = heard(self._pulse, self._clock.monotonic(), number)
            if kind == "welcome":
                self._welcomed(answer.welcome)
            elif kind == "desired":
                # Only the newest matters: one that was not looked at yet is superseded.
                self._offered = answer.desired
                self._offer_came.set()
        raise Unavailable("the control plane ended the stream")

    def _welcomed(self, welcome: messages.Welcome) -> None:
        self.state = advance(self.state, SessionEvent.WELCOMED)
        self._terms = terms_of(welcome.heartbeat_period_ms, welcome.heartbeat_timeout_ms)
        self.control_plane = welcome.control_plane
        self._welcome_came.set()
        _log.info("link.up", control_plane=welcome.control_plane, epoch=welcome.epoch)

    async def _write(self) -> None:
        await self._stream.write(self._hello())
        await self._welcome_came.wait()
        beat_at = report_at = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            while self._answers:
                await self._stream.write(self._answers.popleft())
            if now >= beat_at:
                beat_at = now + self._terms.period_seconds
                self._pulse = heartbeat_sent(self._pulse, now)
                beat = messages.Heartbeat(number=self._pulse.sent)
                await self._stream.write(messages.ConnectRequest(heartbeat=beat))
            if now >= report_at or (self._changed.is_set() and now >= self._may_report_at):
                self._changed.clear()
                report_at = now + REPORT_SECONDS_MAX
                self._may_report_at = now + REPORT_SECONDS_MIN
                observed = report_to_proto(self._side.report())
                await self._stream.write(messages.ConnectRequest(observed=observed))
            await self._wait_until(min(beat_at, report_at))

    async def _wait_until(self, moment: float) -> None:
        self._answered.clear()
        if self._answers:
            return
        seconds = moment - self._clock.monotonic()
        if self._changed.is_set():
            left = self._may_report_at - self._clock.monotonic()
            await first_of(self._clock.sleep(min(seconds, left)), self._answered.wait())
        else:
            await first_of(self._clock.sleep(seconds), self._answered.wait(), self._changed.wait())

    async def _answer_offers(self) -> None:
        while True:
            await self._offer_came.wait()
            self._offer_came.clear()
            offered, self._offered = self._offered, None
            if offered is None:
                continue
            if not accepts_pushes(self.state):
                _log.warning("link.push-ignored", state=self.state.name)
                continue
            self._answers.append(await self._answer(offered))
            self._answered.set()

    async def _answer(self, offered: messages.Desired) -> messages.ConnectRequest:
        result = await self._side.offer(offered.SerializeToString())
        if isinstance(result, Refuse):
            _log.warning("desired.refused", version=_version(offered), reason=result.reason)
            held = version_to_proto(self._side.report().held)
            nack = messages.Nack(version=offered.version, reason=result.reason, held=held)
            return messages.ConnectRequest(nack=nack)
        _log.info("desired.accepted", version=result.version, assignments=len(result.assignments))
        ack = messages.Ack(version=offered.version, digest=offered.digest)
        return messages.ConnectRequest(ack=ack)

    async def _watch(self) -> None:
        await first_of(self._clock.sleep(WELCOME_SECONDS_MAX), self._welcome_came.wait())
        if not self._welcome_came.is_set():
            raise Unavailable(f"no Welcome within {WELCOME_SECONDS_MAX:.0f} s")
        while True:
            await self._clock.sleep(self._terms.period_seconds / JUDGEMENTS_PER_PERIOD)
            judgement = judge(self._pulse, self._terms, self._clock.monotonic())
            if judgement is Judgement.LOST:
                raise Unavailable("the control plane fell silent or does not hear us")
            event = (
                SessionEvent.UNANSWERED
                if judgement is Judgement.UNANSWERED
                else SessionEvent.ANSWERED
            )
            self.state = advance(self.state, event)

    def _hello(self) -> messages.ConnectRequest:
        report = self._side.report()
        return messages.ConnectRequest(
            hello=messages.Hello(
                project=self._settings.project,
                observed=report_to_proto(report),
                features=report.features,
                software=report.software,
                agent_id=self._settings.agent_id,
            )
        )


def _version(offered: messages.Desired) -> str:
    return f"{offered.version.epoch}.{offered.version.generation}"


def _reason(group: BaseExceptionGroup[BaseException]) -> SkerryError:
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _reason(first)
    if isinstance(first, SkerryError):
        return first
    if isinstance(first, grpc.RpcError):
        return from_rpc_error(first)
    # Our own mistake, or the peer's: the connection pays for it, the agent does not.
    _log.error("link.failed", error=repr(first))
    return Unavailable(f"the connection failed: {first!r}")
