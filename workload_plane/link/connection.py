"""One stream to one control plane, from Hello to its end: reads, writes and judges it.

`client.py` makes one for each connection and holds it until it raises why it ended.
"""

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.desired import TAKES_LOADS, TAKES_PARTS, TAKES_RESIDENCY, DesiredState
from skerry.fleet.observation import PlaneReport
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.rpc import TlsFiles, from_rpc_error
from skerry.plumbing.tasks import first_of
from skerry.wire.observations import report_to_proto
from skerry.wire.parts import PART_BYTES, Assembly, parts_of
from skerry.wire.scaling import loads_to_proto
from skerry.wire.supply import version_to_proto
from workload_plane.autoscale.history import KeptDecision
from workload_plane.desired_state.accept import Refuse
from workload_plane.link.decisions import Telling
from workload_plane.link.evidence import EvidenceSide, EvidenceTelling
from workload_plane.link.offers import Offers, from_deposed
from workload_plane.link.session import (
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
    quiet_until,
    terms_of,
    welcome_seconds,
)
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

_log = logs.get_logger(__name__)

# Changes come in bursts (ten replicas turn READY); one report tells them all.
REPORT_SECONDS_MIN = 0.2
# How often we look whether the report is another one though nobody said that it changed.
LOOK_SECONDS = 5.0
# The stream loses nothing, so the same report is said again only for what we did not think of.
REPORT_SECONDS_MAX = 60.0
# The plane counts every few seconds; a count is told within the longer of these. It is looked for
# with the heartbeats where they come that often, so that both need one timer.
LOADS_LOOK_SECONDS_MIN, LOADS_LOOK_SECONDS_MAX = 1.0, 2.0
JUST_AFTER_SECONDS = 0.001  # a silence is too long once it is longer than the timeout


class PlaneSide(Protocol):
    """What the link asks of the agent."""

    @property
    def planes(self) -> int:
        """Return how many planes the fleet has, as far as this one was told."""
        ...

    def report(self) -> PlaneReport:
        """Return the plane's report as of now."""
        ...

    def loads(self) -> LoadReport:
        """Return what came in, as last counted: the same object until it was counted again."""
        ...

    def decisions_after(self, number: int) -> tuple[KeptDecision, ...]:
        """Return what the plane's own loop decided after a decision, in order; after 0 all."""
        ...

    @property
    def evidence(self) -> EvidenceSide | None:
        """Return what tells where requests went; None where nothing keeps that."""
        ...

    async def stored(self) -> bytes:
        """Return the desired state as it is stored, empty when there is none to be read."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What this agent's connections before the present one have seen.

    `streams` is how many they were, `epoch` the highest of a leader that welcomed it, `in_vain`
    how often in a row none did in time.
    """

    streams: int = 0
    epoch: int = 0
    in_vain: int = 0


class Connection:
    """One stream's state: session, pulse, what waits to be sent, the newest offer."""

    def __init__(
        self,
        stream: Any,
        settings: LinkSettings,
        side: PlaneSide,
        changed: asyncio.Event,
        clock: Clock,
        past: "Past | None" = None,
    ) -> None:
        """Take the stream as grpc.aio made it; nothing is sent before `hold`."""
        past = past or Past()
        self._stream = stream
        self._settings = settings
        self._side = side
        self._changed = changed
        self._clock = clock
        self._terms = Terms()
        self._pulse = Pulse(heard_at=clock.monotonic())
        self._sending = asyncio.Lock()  # gRPC takes one message at a time
        self._telling = asyncio.Lock()  # in order, and in parts one message at a time
        self._assembly = Assembly()
        self._offers = Offers[messages.Desired]()
        self._offer_came = asyncio.Event()
        self._held_wanted = asyncio.Event()
        self._welcome_came = asyncio.Event()
        self._takes_loads = self._takes_parts = False
        self._evidence = EvidenceTelling(side.evidence, clock)
        self._reported: PlaneReport | None = None
        self._reported_at = 0.0
        self._look_came = asyncio.Event()
        self._look_at = -math.inf
        self._counted: LoadReport | None = None
        self._count_came = asyncio.Event()
        self._count_at = -math.inf
        self.state = advance(SessionState.IDLE, SessionEvent.DIALLED)
        self.control_plane = ""
        self.targets_current: bool | None = None  # as its last heartbeat said
        self.epoch = 0
        self._epoch_min = past.epoch
        self.number = past.streams + 1  # of this stream among all of this run of the agent
        self._patience_seconds = welcome_seconds(side.planes, past.in_vain)
        self.was_kept_waiting = False

    @property
    def was_welcomed(self) -> bool:
        """Return whether the control plane ever answered Hello with Welcome."""
        return self._welcome_came.is_set()

    async def hold(self) -> None:
        """Keep the stream going; returns never, raises the kind of error that ended it."""
        works = (
            self._read(),
            self._beat(),
            self._report_changes(),
            self._look_for_ever(),
            self._tell_loads_for_ever(),
            self._evidence.tell_for_ever(self._send),
            self._answer_offers(),
            self._tell_held_for_ever(),
            self._watch(),
        )
        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
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
            now = self._clock.monotonic()
            self._pulse = heard(self._pulse, now, number)
            if self.state is SessionState.MUTED:
                self._judge(now)  # an answer is an answer at once
            if kind != "part":
                self._take(kind, answer)
            elif (whole := self._assembly.take(answer.part)) is not None:
                answer = messages.ConnectResponse.FromString(whole)
                self._take(answer.WhichOneof("message"), answer)
        raise Unavailable("the control plane ended the stream")

    def _take(self, kind: str | None, answer: messages.ConnectResponse) -> None:
        if kind == "heartbeat":
            self._note_targets(answer.heartbeat)
            self._note_terms(answer.heartbeat)
        elif kind == "welcome":
            self._welcomed(answer.welcome)
        elif kind == "desired":
            if not accepts_pushes(self.state):
                _log.warning("link.push-waits", state=self.state.name)
            self._offers.came(answer.desired)
            self._offer_came.set()
        elif kind == "tell_held":
            self._held_wanted.set()
        elif kind == "residency_taken":
            self._evidence.came(answer.residency_taken)

    def _welcomed(self, welcome: messages.Welcome) -> None:
        self.state = advance(self.state, SessionEvent.WELCOMED)
        self._terms = terms_of(welcome.heartbeat_period_ms, welcome.heartbeat_timeout_ms)
        self.control_plane = welcome.control_plane
        self._takes_loads = TAKES_LOADS in welcome.features
        self._takes_parts = TAKES_PARTS in welcome.features
        if TAKES_RESIDENCY in welcome.features:
            self._evidence.may_tell.set()
        self.epoch = welcome.epoch
        self._welcome_came.set()
        _log.info("link.up", control_plane=welcome.control_plane, epoch=welcome.epoch)

    def _note_targets(self, heartbeat: messages.Heartbeat) -> None:
        told = heartbeat.targets_current if heartbeat.HasField("targets_current") else None
        if told is not self.targets_current and False in (told, self.targets_current):
            _log.info("link.targets", current=told)
        self.targets_current = told

    def _note_terms(self, heartbeat: messages.Heartbeat) -> None:
        if heartbeat.period_ms or heartbeat.timeout_ms:
            self._terms = terms_of(heartbeat.period_ms, heartbeat.timeout_ms)
            _log.info("link.terms", period_seconds=self._terms.period_seconds)

    async def _send(self, request: messages.ConnectRequest) -> None:
        """Send a message after those before it; heartbeats go between the parts of a large one."""
        async with self._telling:
            if not self._takes_parts or request.ByteSize() <= PART_BYTES:
                await self._write(request)
                return
            for part in parts_of(request.SerializeToString()):
                await self._write(messages.ConnectRequest(part=part))

    async def _write(self, request: messages.ConnectRequest) -> None:
        async with self._sending:
            await self._stream.write(request)

    async def _beat(self) -> None:
        """Say Hello, then heartbeats; they never wait for what a report takes to be made."""
        await self._send(self._hello())
        await self._welcome_came.wait()
        beat_at = now = self._clock.monotonic()
        while True:
            if now >= beat_at:
                self._pulse = heartbeat_sent(self._pulse, now)
                beat = messages.Heartbeat(number=self._pulse.sent)
                await self._write(messages.ConnectRequest(heartbeat=beat))
                # In step with the clock, not with how long a send took; what was missed is missed.
                now = self._clock.monotonic()
                beat_at = max(beat_at + self._terms.period_seconds, now)
            self._look(now)
            await self._clock.sleep(min(beat_at, self._count_at + LOADS_LOOK_SECONDS_MAX) - now)
            now = self._clock.monotonic()

    def _look(self, now: float) -> None:
        """Have looked at what nobody tells of, where it is time for that."""
        if now - self._look_at >= LOOK_SECONDS:
            self._look_at = now
            self._look_came.set()
        if now - self._count_at >= LOADS_LOOK_SECONDS_MIN:
            self._count_at = now
            counted = self._side.loads()
            if counted is not self._counted and (counted.loads or counted.spent):
                self._count_came.set()
            self._counted = counted

    async def _report_changes(self) -> None:
        """Report what changed, soon after somebody says so."""
        await self._welcome_came.wait()
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._report()
            await self._clock.sleep(REPORT_SECONDS_MIN)

    async def _look_for_ever(self) -> None:
        while True:
            await self._look_came.wait()
            self._look_came.clear()
            await self._report()

    async def _report(self) -> None:
        """Send the report when it is another one than the last, or that was long ago."""
        report, now = self._side.report(), self._clock.monotonic()
        is_due = now - self._reported_at >= REPORT_SECONDS_MAX
        # As values: to make a message of what was said already would be most of what a look costs.
        if report == self._reported and not is_due:
            return
        self._reported, self._reported_at = report, now
        await self._send(messages.ConnectRequest(observed=self._observed(report, now)))

    async def _tell_loads_for_ever(self) -> None:
        """Tell each count once, to a control plane that takes it: twice would be no growth."""
        await self._welcome_came.wait()
        telling = Telling(self._side.planes)
        while self._takes_loads:
            await self._count_came.wait()
            self._count_came.clear()
            counted = self._counted
            if counted is not None and (counted.loads or counted.spent):
                decided = telling.next(self._side.decisions_after(telling.number))
                loads = loads_to_proto(counted, decided)
                await self._send(messages.ConnectRequest(loads=loads))

    async def _tell_held_for_ever(self) -> None:
        """Tell all that is held when asked: the control plane's database knows less."""
        while True:
            await self._held_wanted.wait()
            self._held_wanted.clear()
            held = messages.Desired()
            try:
                held.ParseFromString(await self._side.stored())
            except (OSError, DecodeError, SkerryError) as error:
                _log.warning("held.not-told", error=str(error))  # it hears: this plane cannot tell
            else:
                _log.info("held.told", version=_version(held))
            await self._send(messages.ConnectRequest(held=held))

    async def _answer_offers(self) -> None:
        while True:
            self._offer_came.clear()
            offered = self._offers.take(self.state, self._clock.monotonic())
            if offered is None:
                await self._until_offer_due()
                continue
            result = await self._offer(offered)
            refused = result if isinstance(result, Refuse) else None
            if self._offers.answered(refused, self._clock.monotonic()):
                await self._send(self._answer(offered, result))

    async def _until_offer_due(self) -> None:
        due = self._offers.due_at(self.state)
        if due is None:
            await self._offer_came.wait()
            return
        left = max(0.0, due - self._clock.monotonic())
        await first_of(self._offer_came.wait(), self._clock.sleep(left))

    def _answer(
        self, offered: messages.Desired, result: DesiredState | Refuse
    ) -> messages.ConnectRequest:
        if isinstance(result, Refuse):
            _log.warning("desired.refused", version=_version(offered), reason=result.reason)
            held = version_to_proto(self._side.report().held)
            nack = messages.Nack(version=offered.version, reason=result.reason, held=held)
            return messages.ConnectRequest(nack=nack)
        _log.info("desired.accepted", version=result.version, assignments=len(result.assignments))
        ack = messages.Ack(version=offered.version, digest=offered.digest)
        return messages.ConnectRequest(ack=ack)

    async def _offer(self, offered: messages.Desired) -> DesiredState | Refuse:
        deposed = from_deposed(offered.version.epoch, max(self._epoch_min, self.epoch))
        return deposed or await self._side.offer(offered.SerializeToString())

    async def _watch(self) -> None:
        patience = self._patience_seconds
        await first_of(self._clock.sleep(patience), self._welcome_came.wait())
        if not self._welcome_came.is_set():
            self.was_kept_waiting = True
            raise Unavailable(f"no Welcome within {patience:.0f} s")
        while True:
            now = self._clock.monotonic()
            self._judge(now)
            quiet = quiet_until(self._pulse, self._terms, now) + JUST_AFTER_SECONDS
            await self._clock.sleep(quiet - now)

    def _judge(self, now: float) -> None:
        judgement = judge(self._pulse, self._terms, now)
        if judgement is Judgement.LOST:
            raise Unavailable("the control plane fell silent or does not hear us")
        unanswered = judgement is Judgement.UNANSWERED
        event = SessionEvent.UNANSWERED if unanswered else SessionEvent.ANSWERED
        was, self.state = self.state, advance(self.state, event)
        if self.state is not was and accepts_pushes(self.state):
            self._offer_came.set()

    def _observed(self, report: PlaneReport, now: float) -> messages.Observed:
        observed = report_to_proto(report)
        observed.newest_epoch = self._epoch_min  # this connection's own is its leader's
        observed.told_seconds = now
        return observed

    def _hello(self) -> messages.ConnectRequest:
        report, now = self._side.report(), self._clock.monotonic()
        self._reported, self._reported_at = report, now
        hello = messages.Hello(
            project=self._settings.project,
            observed=self._observed(report, now),
            features=report.features,
            software=report.software,
            agent_id=self._settings.agent_id,
            stream_number=self.number,
        )
        return messages.ConnectRequest(hello=hello)


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
