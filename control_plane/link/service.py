"""PlaneLinkService: one stream per plane, heartbeats both ways, the newest desired state out.

The plane proves its name by the URI in its certificate; a name in a message alone proves nothing.

Each stream has one task that reads and one that sends, and neither waits for the other: a plane is
heard while a large state is on its way to it. Once begun, a state is sent to its end, newer or not:
a plane whose line carries states slower than they change would else be told none.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from google.protobuf.message import DecodeError

from control_plane.link.admission import Door, admit
from control_plane.link.convert import message_of
from control_plane.link.credible import check_credible
from control_plane.link.freshness import are_current
from control_plane.link.loads import HeardLoads
from control_plane.link.pacing import paced
from control_plane.link.push import Outbox
from control_plane.link.registry import Registry
from control_plane.link.session import IllegalTransition, Session, SessionEvent
from control_plane.link.silence import SilenceWatch
from control_plane.reconcile.policy import ReconcilePolicy, policy_for
from control_plane.store.residency import Taken
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.fleet.desired import TAKES_LOADS, TAKES_PARTS, TAKES_RESIDENCY
from skerry.fleet.generation import Version, may_replace
from skerry.fleet.party_uris import names_plane, why_not_plane
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Denied, Exhausted, InvalidInput, SkerryError, Unavailable
from skerry.plumbing.rpc import peer_certificate, peer_uri_sans
from skerry.wire.observations import report_from_proto
from skerry.wire.parts import PART_BYTES, Assembly, parts_of
from skerry.wire.supply import version_from_proto

_log = logs.get_logger(__name__)

_FAULT_CHARACTERS_MAX = 300  # it goes into the plane's next record
HELLO_SECONDS_MAX = 5.0  # a stream that says nothing is not a plane


class PlaneLink(plane_service_pb2_grpc.PlaneLinkServiceServicer):
    """The control plane's end of every link."""

    def __init__(
        self,
        registry: Registry,
        policy: ReconcilePolicy,
        clock: Clock,
        *,
        name: str,
        epoch: int,
        trust_domain: str,
    ) -> None:
        self._registry = registry
        self._policy = policy
        self._clock = clock
        self._name = name
        self._epoch = epoch
        self._trust_domain = trust_domain
        self._door = Door()
        self._greeting = 0
        self._free_at: dict[str, float] = {}  # of each plane: when it may speak by its pace
        # For so many planes: the policy, and what messages say of it.
        self._policy_for = (0, policy, _terms(policy))
        self._silence = SilenceWatch(registry, self._policy_now, clock)
        self._streams: dict[str, _Stream] = {}
        registry.identities.follow(self._recheck)

    async def Connect(
        self, request_iterator: AsyncIterator[messages.ConnectRequest], context: Any
    ) -> None:
        """Serve one plane's stream until either side ends it or falls silent."""
        requests = aiter(request_iterator)
        stream = await self._opened(requests, context)
        self._streams[stream.plane] = stream
        try:
            await self._serve(stream, requests)
        except asyncio.CancelledError:
            stream.raise_why()
            raise
        finally:
            stream.is_over = True
            if self._streams.get(stream.plane) is stream:
                del self._streams[stream.plane]
            self._registry.close(stream.plane, stream.outbox)
            _log.info("plane.disconnected", plane=stream.plane)

    async def watch(self) -> None:
        """Judge silences and end the streams of silent planes, for ever; beside the server."""
        await self._silence.run()

    async def _opened(
        self, requests: AsyncIterator[messages.ConnectRequest], context: Any
    ) -> "_Stream":
        """Return the stream of a plane that said Hello.

        Apart from what goes on for as long as the stream: nothing of the Hello is held then.
        """
        self._greeting += 1
        try:
            hello = await self._hello(requests)
        finally:
            self._greeting -= 1
        _check_identity(hello, context, self._trust_domain)
        certificate = peer_certificate(context)
        self._check_membership(hello.observed.identity.name, certificate)
        try:
            report = report_from_proto(hello.observed, tuple(hello.features), hello.software)
        except ValueError as error:
            raise InvalidInput(f"the plane's report cannot be used: {error}") from error
        check_credible(report, self._epoch, self._registry.pushed(report.identity.name))
        plane, policy = report.identity.name, self._policy_now()
        timeout_seconds = policy.heartbeat_timeout_seconds
        outbox = self._registry.open(
            report, hello.agent_id, timeout_seconds, stream_number=hello.stream_number
        )
        _log.info("plane.connected", plane=plane, held=report.held, agent=hello.agent_id)
        stream = _Stream(plane=plane, outbox=outbox, context=context, told=_told(hello.observed))
        stream.certificate = certificate
        stream.takes_parts = TAKES_PARTS in report.features
        stream.session.on(SessionEvent.HELLO)
        return stream

    def _check_membership(self, plane: str, certificate: bytes) -> None:
        """Refuse a plane that was revoked, or whose key is not the one that joined last."""
        if refusal := self._registry.identities.refusal(plane, certificate):
            raise Denied(refusal)

    def _recheck(self, plane: str) -> None:
        """End the stream of a plane that is not let in with its certificate any more."""
        stream = self._streams.get(plane)
        if stream is None:
            return
        try:
            self._check_membership(plane, stream.certificate)
        except Denied as error:
            stream.end(error)

    async def _hello(self, requests: AsyncIterator[messages.ConnectRequest]) -> messages.Hello:
        """Return the Hello of a plane that is let in; Exhausted tells it when to come back."""
        async with asyncio.timeout(HELLO_SECONDS_MAX):
            first = await anext(requests, None)
        if first is None:
            raise Unavailable("the stream ended before it said anything")
        if first.WhichOneof("message") != "hello":
            raise InvalidInput("the first message of a stream must be Hello")
        self._door, wait = admit(self._door, self._clock.monotonic(), self._greeting)
        if wait is not None:
            raise Exhausted(
                "too many planes come back at once; come again when told",
                retry_after_seconds=wait,
            )
        return first.hello

    async def _serve(
        self,
        stream: "_Stream",
        requests: AsyncIterator[messages.ConnectRequest],
    ) -> None:
        await stream.send(self._welcome(stream))
        self._silence.add(stream)
        try:
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(self._tell(stream))
                await self._listen(stream, requests)
                telling.cancel()
        except ExceptionGroup as found:
            _raise_first(found)

    async def _listen(
        self, stream: "_Stream", requests: AsyncIterator[messages.ConnectRequest]
    ) -> None:
        """Take in what the plane says; waits for nothing else but when it says too much."""
        async for request in requests:
            if not self._registry.is_of(stream.plane, stream.outbox):
                return  # the plane speaks on another stream: what this one brings late is older
            self._registry.hear(stream.plane)
            if await self._pace(stream.plane) and not self._registry.is_of(
                stream.plane, stream.outbox
            ):
                return  # it began another one while this one was held back
            kind = request.WhichOneof("message")
            try:
                if kind != "part":
                    self._take(stream, kind, request)
                elif (whole := stream.assembly.take(request.part)) is not None:
                    request = _in_parts(whole)
                    self._take(stream, request.WhichOneof("message"), request)
            except (ValueError, InvalidInput) as error:
                # One bad message costs itself, not the session: the plane's next report is whole.
                _log.warning("plane.message-refused", plane=stream.plane, error=str(error))

    async def _pace(self, plane: str) -> bool:
        """Listen no faster than a plane may speak, whatever streams it opens; was it held back?"""
        free_at, wait = paced(self._free_at.get(plane, 0.0), self._clock.monotonic())
        self._free_at[plane] = free_at
        if wait > 0.0:
            await self._clock.sleep(wait)
        return wait > 0.0

    async def _tell(self, stream: "_Stream") -> None:
        """Send what there is to say, for ever; a heartbeat's echo before anything else."""
        while True:
            await stream.outbox.wait()
            await self._echo(stream)
            if (taken := stream.outbox.take_taken()) is not None:
                await stream.send(_taken(taken))
            if (state := stream.outbox.take_state()) is not None:
                await self._push(stream, *state)

    async def _echo(self, stream: "_Stream") -> None:
        """Answer the plane's newest heartbeat, unless that was done."""
        number = stream.outbox.take_heartbeat()
        if number is None:
            return
        current = self._are_current(stream.plane)
        heartbeat = messages.Heartbeat(number=number, targets_current=current)
        terms = self._terms_now()
        if terms != stream.terms:
            heartbeat.period_ms, heartbeat.timeout_ms = stream.terms = terms
        is_asked = self._registry.held.takes_turn(stream.plane)
        await stream.send(messages.ConnectResponse(heartbeat=heartbeat))
        if is_asked:
            await stream.send(messages.ConnectResponse(tell_held=messages.TellHeld()))

    def _are_current(self, plane: str) -> bool:
        """Say whether the targets that the plane holds are current.

        What it refused last may have held others.
        """
        registry, now = self._registry, self._clock.monotonic()
        current = are_current(registry.targets_at, now, self._policy.scaling_period_seconds)
        return current and not registry.has_refused(plane)

    async def _push(self, stream: "_Stream", version: Version, payload: bytes) -> None:
        """Send a state: to a plane that takes parts in such, and heartbeats between them."""
        stream.session.on(SessionEvent.PUSH)
        whole = messages.ConnectResponse(desired=message_of(payload, version))
        if not stream.takes_parts or whole.ByteSize() <= PART_BYTES:
            await stream.send(whole)
            return
        encoded = whole.SerializeToString()
        del whole  # megabytes, for as long as a slow line takes
        for part in parts_of(encoded):
            await self._echo(stream)
            await stream.send(messages.ConnectResponse(part=part))

    def _take(self, stream: "_Stream", kind: str | None, request: messages.ConnectRequest) -> None:
        plane = stream.plane
        if kind == "heartbeat":
            stream.outbox.echo(request.heartbeat.number)
        elif kind == "observed":
            self._observe(stream, request.observed)
        elif kind == "ack":
            self._acknowledge(plane, request.ack)
            stream.session.on(SessionEvent.ACK)
        elif kind == "nack":
            stream.session.on(SessionEvent.NACK)
            _log.warning("plane.refused", plane=plane, reason=request.nack.reason)
            self._registry.refuse(plane, request.nack.reason)
        elif kind == "held":
            self._registry.held.take(plane, request.held)
        elif kind == "loads":
            now = self._clock.monotonic()
            self._registry.decisions.take(plane, request.loads.decisions, now)
            self._registry.key_spending.take(plane, request.loads.spent)
            request.loads.ClearField("spent")
            request.loads.ClearField("decisions")  # the rest is kept as it came in
            self._registry.take_loads(plane, HeardLoads(request.loads, now))
        elif kind == "residency":
            self._registry.evidence.put(plane, request.residency)
        else:
            raise IllegalTransition(f"{kind} makes no sense on a session that is up")

    def _acknowledge(self, plane: str, ack: messages.Ack) -> None:
        held, newest = version_from_proto(ack.version), self._registry.pushed(plane)
        if newest is None or not may_replace(newest, held):
            raise ValueError(f"it acknowledges {held}, and was pushed {newest} at most")
        self._registry.acknowledge(plane, held, ack.digest)

    def _observe(self, stream: "_Stream", observed: messages.Observed) -> None:
        known = self._registry.view(stream.plane).report
        told = _told(observed)
        if known is not None and told == stream.told:
            self._registry.observe(known)  # said again: to turn it into values costs the most
            return
        features = known.features if known else ()
        report = report_from_proto(observed, features, known.software if known else "")
        if report.identity.name != stream.plane:
            raise ValueError(f"the stream of {stream.plane} reported for {report.identity.name}")
        check_credible(report, self._epoch, self._registry.pushed(stream.plane))
        stream.told = told
        self._registry.observe(report)

    def _policy_now(self) -> ReconcilePolicy:
        self._terms_now()
        return self._policy_for[1]

    def _terms_now(self) -> tuple[int, int]:
        """Return the heartbeats' terms as messages carry them: made anew only for another fleet."""
        planes = self._registry.planes
        if planes != self._policy_for[0]:
            policy = policy_for(self._policy, planes)
            self._policy_for = (planes, policy, _terms(policy))
        return self._policy_for[2]

    def _welcome(self, stream: "_Stream") -> messages.ConnectResponse:
        policy = self._policy_now()
        stream.terms = _terms(policy)
        period_ms, timeout_ms = stream.terms
        return messages.ConnectResponse(
            welcome=messages.Welcome(
                epoch=self._epoch,
                heartbeat_period_ms=period_ms,
                heartbeat_timeout_ms=timeout_ms,
                lease_ms=round(policy.lease_seconds * 1000),
                control_plane=self._name,
                features=(TAKES_LOADS, TAKES_PARTS, TAKES_RESIDENCY),
            )
        )


class _Stream:
    """One plane's stream, and what was said on it last."""

    def __init__(self, *, plane: str, outbox: Outbox, context: Any, told: bytes) -> None:
        self.plane = plane
        self.outbox = outbox
        self.session = Session()
        self.assembly = Assembly()
        self.takes_parts = False
        self.terms = (0, 0)  # milliseconds: the heartbeats' that the plane was told last
        self.is_over = False
        self.certificate = b""  # PEM: what the plane proved itself with
        self._task = asyncio.current_task()
        self._why: SkerryError | None = None
        self.told = told  # of the report that was turned into values last
        self._context = context

    async def send(self, response: messages.ConnectResponse) -> None:
        """Send one message; gRPC takes no other until it is on its way, and one task sends."""
        await self._context.write(response)

    def end(self, why: SkerryError) -> None:
        """End the stream and say why; nothing when it has ended already."""
        if not self.is_over and self._why is None and self._task is not None:
            self._why = why
            self._task.cancel()

    def raise_why(self) -> None:
        """Raise why the stream was ended here, if it was: as a timeout does with its own end."""
        if self._why is not None and self._task is not None:
            self._task.uncancel()
            raise self._why from None


def _taken(taken: Taken) -> messages.ConnectResponse:
    told = messages.ResidencyTaken(
        chain=taken.chain, sequence=taken.sequence, fault=taken.fault[:_FAULT_CHARACTERS_MAX]
    )
    return messages.ConnectResponse(residency_taken=told)


def _terms(policy: ReconcilePolicy) -> tuple[int, int]:
    """Return the heartbeats' period and timeout in milliseconds, as messages carry them."""
    seconds = (policy.heartbeat_period_seconds, policy.heartbeat_timeout_seconds)
    return round(seconds[0] * 1000), round(seconds[1] * 1000)


def _in_parts(whole: bytes) -> messages.ConnectRequest:
    """Return the message that came in parts; ValueError when it is none."""
    try:
        request = messages.ConnectRequest.FromString(whole)
    except DecodeError as error:
        raise ValueError(f"what came in parts cannot be read: {error}") from error
    if request.WhichOneof("message") == "part":
        raise ValueError("what came in parts is a part")
    return request


def _told(observed: messages.Observed) -> bytes:
    """Return a digest of a report: whole ones of thousands of planes would be megabytes.

    Without when it was told, which differs each time that it is said again.
    """
    said = messages.Observed()
    said.CopyFrom(observed)
    said.ClearField("told_seconds")
    return hashlib.blake2b(said.SerializeToString(), digest_size=16).digest()


def _raise_first(found: BaseExceptionGroup[Exception]) -> NoReturn:
    """Raise what ended a stream: one of our kinds where there is one."""
    ours, others = found.split(SkerryError)
    first: BaseException = ours or others or found
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    raise first from None


def _check_identity(hello: messages.Hello, context: Any, trust_domain: str) -> None:
    """Refuse a plane whose certificate does not carry the name it claims."""
    whose = (trust_domain, hello.project, hello.observed.identity.name)
    names = peer_uri_sans(context)
    if not names_plane(names, *whose):
        raise Denied(f"the certificate of this plane {why_not_plane(names, *whose)}")
