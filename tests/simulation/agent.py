"""An agent of the simulated world: link, desired state and convergence, by the product's decisions.

What is here and not the product's is I/O: when it looks, how a stream is dialled, what a disk does.
"""

from collections.abc import Callable
from dataclasses import replace

from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.desired import FEATURES, DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import UNKNOWN, PlaneReport, Unknown
from skerry.plumbing.errors import Corrupt
from tests.simulation import messages as said
from tests.simulation.disk import SimDisk, digest_of, parsed
from tests.simulation.network import End, Network, Stream
from tests.simulation.timeline import Process, Timeline
from workload_plane.desired_state import accept
from workload_plane.desired_state import file as desired_file
from workload_plane.link import session as link
from workload_plane.link.offers import Offers, from_deposed

LOOK_SECONDS = 5.0  # as `connection` looks whether its report is another one
REPORT_SECONDS_MIN = 0.2
REPORT_SECONDS_MAX = 60.0
FULL = accept.Refuse(reason="it could not be made durable: no space left", may_pass=True)

Dial = Callable[[Process, str], Stream | None]
Answer = Callable[[accept.Refuse | None], None]
Running = Callable[[], frozenset[accept.Grant]]


class SimHolder:
    """The desired state in force, as `desired_state.holder` keeps it."""

    def __init__(self, plane: str, process: Process, disk: SimDisk) -> None:
        self._plane = plane
        self._process = process
        self.disk = disk
        self.features: tuple[str, ...] = FEATURES
        self.state: DesiredState | Unknown = UNKNOWN
        self.seen = NEVER
        self.fault: str | None = None
        self.payload = b""  # of the state in force
        self._storing = False
        self.on_load: list[Callable[[], None]] = []
        self.on_accept: list[Callable[[DesiredState], None]] = []

    @property
    def version(self) -> Version:
        """Return the version in force."""
        return NEVER if isinstance(self.state, Unknown) else self.state.version

    @property
    def digest(self) -> bytes:
        """Return the digest of what is in force; empty where the disk needs it again."""
        return digest_of(self.payload) if self.payload and self.fault is None else b""

    def load(self) -> None:
        """Take what the disk holds; unreadable, it stays unknown."""
        self._storing = False
        self.state, self.seen, self.fault, self.payload = UNKNOWN, NEVER, None, b""
        try:
            loaded = self.disk.load()
        except desired_file.UnreadableDesired as error:
            self.fault, self.seen = str(error), error.seen
        else:
            if loaded is not None:
                self.state, self.seen = loaded.stored.state, loaded.seen
                self.fault, self.payload = loaded.fault, loaded.stored.payload
        for told in self.on_load:
            told()

    def offer(self, payload: bytes, running: frozenset[accept.Grant], answer: Answer) -> None:
        """Judge an offered state and make it durable; `answer` gets why not, or None."""
        if self._storing:  # one after another, as the product's lock has it
            self._process.after(0.05, lambda: self.offer(payload, running, answer))
            return
        try:
            offered = parsed(payload)
        except Corrupt as error:
            answer(accept.Refuse(reason=str(error)))
            return
        held = None if isinstance(self.state, Unknown) else self.state
        facts = accept.Held(plane=self._plane, state=held, seen=self.seen, running=running)
        verdict = accept.decide(offered, facts, self.features)
        if isinstance(verdict, accept.Refuse):
            answer(verdict)
            return
        if not verdict.changed and self.fault is None:
            answer(None)
            return
        if self.disk.full:
            answer(FULL)
            return

        self._storing = True

        def durable() -> None:
            self._storing = False
            self.state, self.seen, self.fault = offered, offered.version, None
            self.payload = payload
            for told in self.on_accept:
                told(offered)
            answer(None)

        self.disk.store(self._process, payload, durable)


class SimLink:
    """The link's client: one stream to one control plane at a time, for ever."""

    def __init__(
        self,
        process: Process,
        holder: SimHolder,
        report: Callable[[], PlaneReport],
        running: Running,
        dial: Dial,
    ) -> None:
        self._process = process
        self._timeline: Timeline = process.timeline
        self._holder = holder
        self._report = report
        self._running = running
        self._dial = dial
        self.control_planes: tuple[str, ...] = ()
        self.agent_id = ""
        self.streams = 0  # that this run of the agent opened
        self.tells_loads = True
        self.targets_current: bool | None = None  # as the last heartbeat said
        self._epoch = 0
        self._random = self._timeline.noise(f"{process.name}/link")
        self._forget()

    @property
    def newest_epoch(self) -> int:
        """Return the highest epoch under which it was welcomed."""
        return max(self.epoch_seen, self._epoch)

    @property
    def has_targets(self) -> bool:
        """Say whether the control plane's targets are to be followed now."""
        return link.targets_hold(self.state, self.targets_current)

    def tell_loads(self, report: LoadReport) -> None:
        """Tell what was counted, once, to whoever hears it."""
        stream = self._stream
        if stream is not None and self._welcomed and self.tells_loads:
            stream.send(stream.client, said.Loads(report=report))

    def _forget(self) -> None:
        self.state = link.SessionState.IDLE
        self.epoch_seen = self._epoch = 0
        self._attempt = self._turn = self.streams = 0
        self._stream: Stream | None = None
        self._welcomed = False

    def start(self, agent_id: str) -> None:
        """Begin with nothing remembered."""
        self.agent_id = agent_id
        self._forget()
        self._connect()

    def changed(self) -> None:
        """Tell that the report may be another one."""
        if self.state in (link.SessionState.LINKED, link.SessionState.MUTED):
            self._report_soon()

    def _connect(self) -> None:
        name = self.control_planes[self._turn % len(self.control_planes)]
        stream = self._dial(self._process, name)
        self.state = link.advance(link.SessionState.IDLE, link.SessionEvent.DIALLED)
        self._welcomed, self.targets_current = False, None
        if stream is None:
            self._lost(None)
            return
        self._stream, end = stream, stream.client
        self._terms, self._epoch = link.Terms(), 0
        self._pulse = link.Pulse(heard_at=self._timeline.now)
        self._offers = Offers[said.Desired]()
        self._report_due = False
        end.take = lambda message: self._take(stream, end, message)
        end.ended = lambda: self._lost(stream)
        self._reported, self._reported_at = self._report(), self._timeline.now
        told = replace(self._reported, told_at_seconds=self._timeline.now)
        self.streams += 1
        hello = said.Hello(report=told, agent_id=self.agent_id, stream_number=self.streams)
        stream.send(end, hello)

        def patience() -> None:
            if self._stream is stream and not self._welcomed:
                self._lost(stream)

        self._process.after(link.WELCOME_SECONDS_MAX, patience)

    def _lost(self, stream: Stream | None) -> None:
        if stream is not self._stream:
            return
        if stream is not None:
            stream.close(stream.client)
        self._stream = None
        self.state = link.advance(self.state, link.SessionEvent.LOST)
        if self._welcomed:
            self._attempt = 0
            self.epoch_seen = self.newest_epoch
        else:
            self._turn += 1
        delay = link.reconnect_delay(self._attempt, self._random.random(), 4)
        self._attempt += 1
        self._process.after(delay, self._connect)

    def _take(self, stream: Stream, end: End, message: object) -> None:
        if self._stream is not stream:
            return
        number = message.number if isinstance(message, said.Heartbeat) else None
        now = self._timeline.now
        self._pulse = link.heard(self._pulse, now, number)
        try:
            if self.state is link.SessionState.MUTED:
                self._judge(stream)
            if isinstance(message, said.Heartbeat):
                self.targets_current = message.targets_current
            elif isinstance(message, said.Welcome):
                self.state = link.advance(self.state, link.SessionEvent.WELCOMED)
                self._welcome(stream, end, message)
            elif isinstance(message, said.TellHeld):
                stream.send(end, said.Held(payload=self._holder.payload))
            elif isinstance(message, said.Desired):
                self._offers.came(message)
                self._answer(stream, end)
        except link.IllegalTransition:
            self._lost(stream)

    def _welcome(self, stream: Stream, end: End, welcome: said.Welcome) -> None:
        self._welcomed = True
        self._epoch = welcome.epoch
        self._terms = link.terms_of(welcome.period_ms, welcome.timeout_ms)

        def beat() -> None:
            if self._stream is not stream:
                return
            self._pulse = link.heartbeat_sent(self._pulse, self._timeline.now)
            stream.send(end, said.Heartbeat(number=self._pulse.sent))
            self._process.after(self._terms.period_seconds, beat)

        def look() -> None:
            if self._stream is stream:
                self._send_report(stream, end)
                self._process.after(LOOK_SECONDS, look)

        def watch() -> None:
            if self._stream is not stream:
                return
            self._judge(stream)
            if self._stream is stream:
                now = self._timeline.now
                until = link.quiet_until(self._pulse, self._terms, now)
                self._process.after(until - now + 0.001, watch)

        beat()
        look()
        watch()

    def _judge(self, stream: Stream) -> None:
        judgement = link.judge(self._pulse, self._terms, self._timeline.now)
        if judgement is link.Judgement.LOST:
            self._lost(stream)
            return
        unanswered = judgement is link.Judgement.UNANSWERED
        event = link.SessionEvent.UNANSWERED if unanswered else link.SessionEvent.ANSWERED
        was, self.state = self.state, link.advance(self.state, event)
        if self.state is not was:
            self._answer(stream, stream.client)

    def _report_soon(self) -> None:
        stream = self._stream
        if stream is None or self._report_due:
            return
        self._report_due = True

        def due() -> None:
            if self._stream is stream:
                self._report_due = False
                self._send_report(stream, stream.client)

        wait = self._reported_at + REPORT_SECONDS_MIN - self._timeline.now
        self._process.after(max(0.001, wait), due)

    def _send_report(self, stream: Stream, end: End) -> None:
        report, now = self._report(), self._timeline.now
        if report == self._reported and now - self._reported_at < REPORT_SECONDS_MAX:
            return
        self._reported, self._reported_at = report, now
        stream.send(end, said.Observed(report=replace(report, told_at_seconds=now)))

    def _answer(self, stream: Stream, end: End) -> None:
        """Look at the offer whose turn it is, and tell what came of it."""
        if self._stream is not stream:
            return
        offered = self._offers.take(self.state, self._timeline.now)
        if offered is None:
            due = self._offers.due_at(self.state)
            if due is not None:
                self._process.after(due - self._timeline.now, lambda: self._answer(stream, end))
            return

        def answer(refused: accept.Refuse | None) -> None:
            if self._stream is not stream:
                return
            version = offered.version
            if self._offers.answered(refused, self._timeline.now):
                if refused is None:
                    stream.send(end, said.Ack(version=version, digest=digest_of(offered.payload)))
                else:
                    stream.send(end, said.Nack(version=version, reason=refused.reason))
            self.changed()
            self._answer(stream, end)

        deposed = from_deposed(offered.version.epoch, self.newest_epoch)
        if deposed is not None:
            answer(deposed)
        else:
            self._holder.offer(offered.payload, self._running(), answer)


def dialler(
    network: Network, accept_at: Callable[[str], tuple[Process, Callable[..., None]]]
) -> Dial:
    """Return what opens streams: to a control plane that is there and in reach."""

    def dial(process: Process, name: str) -> Stream | None:
        server, take_in = accept_at(name)
        both = ((process.name, name), (name, process.name))
        if not server.alive or not all(network.carries(*way) for way in both):
            return None
        stream = Stream(network, process, server)
        server.deliver(lambda: take_in(stream, stream.server))
        return stream

    return dial
