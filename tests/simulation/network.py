"""The network of the simulated world: paths that may be cut one way, and streams over them.

A stream keeps the order of its messages as TCP does, unless the world is `harsh`: then some are
lost, doubled or overtaken, and a stream to which that happened is reset after a while.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.simulation.messages import Desired
from tests.simulation.timeline import Process, Timeline

DELAY_SECONDS_MAX = 0.05
SLOW_SECONDS_MAX = 2.0  # of a message now and then
RETRY_SECONDS = 0.7  # TCP sends again what a cut path did not bring
RESET_SECONDS = (2.0, 8.0)
PUSH_WORSE = 6.0
SLOW, LOST, DOUBLED, OVERTAKEN = 0.02, 0.01, 0.02, 0.03

Way = tuple[str, str]  # sender, receiver


def both_ways(one: str, other: str) -> list[Way]:
    """Return the paths between two, there and back."""
    return [(one, other), (other, one)]


@dataclass(slots=True)
class Network:
    """Which paths are cut, by the names of both ends, and how bad the rest is."""

    timeline: Timeline
    cut: set[Way] = field(default_factory=set)
    harsh: bool = False
    # By its name, for how long the next stream that a process opens is held up: its connection's
    # packets are lost and sent again, while others on the same path get through.
    held_up: dict[str, float] = field(default_factory=dict)
    streams: list["Stream"] = field(default_factory=list)

    def carries(self, sender: str, receiver: str) -> bool:
        """Say whether a message gets through now."""
        return (sender, receiver) not in self.cut

    def delay(self, random: Random) -> float:
        """Return how long a message takes now."""
        if self.harsh and random.random() < SLOW:
            return random.uniform(0.0, SLOW_SECONDS_MAX)
        return random.uniform(0.001, DELAY_SECONDS_MAX)

    def calm(self) -> None:
        """Mend all paths; streams that lost something are reset."""
        self.cut.clear()
        self.held_up.clear()
        self.harsh = False
        for stream in [one for one in self.streams if one.damaged]:
            stream.reset()


@dataclass(slots=True)
class End:
    """One end of a stream: whose it is, and what happens with what arrives."""

    process: Process
    take: Callable[[object], None] = lambda message: None
    ended: Callable[[], None] = lambda: None
    open: bool = True
    life: int = 0
    coming: deque[tuple[float, object]] = field(default_factory=deque)  # when, in order


class Stream:
    """A stream between two processes; half of it may be dead without their noticing."""

    def __init__(self, network: Network, client: Process, server: Process) -> None:
        self._network = network
        self.client = End(process=client, life=client.life)
        self.server = End(process=server, life=server.life)
        self.damaged = False
        held_up_seconds = network.held_up.pop(client.name, 0.0)
        self._held_until = network.timeline.now + held_up_seconds
        self._random = network.timeline.noise(f"{client.name} to {server.name}")
        network.streams.append(self)

    def send(self, sender: End, message: object) -> None:
        """Send to the other end; order is kept unless the network is harsh."""
        receiver = self.server if sender is self.client else self.client
        network, random = self._network, self._random
        delay = self._delay(sender)
        if network.harsh:
            luck = random.random()
            if isinstance(message, Desired):
                luck /= PUSH_WORSE  # among a hundred heartbeats a push would seldom be met
            if luck < LOST:
                self._damage()
                return
            if luck < LOST + DOUBLED:
                self._damage()
                self._bring(sender, receiver, message, delay + random.uniform(0.0, 3.0))
            elif luck < LOST + DOUBLED + OVERTAKEN:
                self._damage()
                self._bring(sender, receiver, message, delay + random.uniform(0.0, 3.0))
                return
        at = network.timeline.now + delay
        if receiver.coming:
            receiver.coming.append((max(at, receiver.coming[-1][0]), message))
        else:
            receiver.coming.append((at, message))
            network.timeline.after(delay, lambda: self._pump(sender, receiver))

    def _pump(self, sender: End, receiver: End) -> None:
        """Bring what is due, in order; what a cut path holds up is tried again."""
        network = self._network
        if not receiver.open or receiver.process.life != receiver.life:
            receiver.coming.clear()
            return
        wait = RETRY_SECONDS
        if network.carries(sender.process.name, receiver.process.name):
            _, message = receiver.coming.popleft()
            self._hand(receiver, message)
            if not receiver.coming:
                return
            wait = max(0.0, receiver.coming[0][0] - network.timeline.now)
        network.timeline.after(wait, lambda: self._pump(sender, receiver))

    def _bring(self, sender: End, receiver: End, message: object, seconds: float) -> None:
        """Bring one message out of order."""

        def arrive() -> None:
            if self._network.carries(sender.process.name, receiver.process.name):
                self._hand(receiver, message)

        self._network.timeline.after(seconds, arrive)

    def _hand(self, receiver: End, message: object) -> None:
        if receiver.open and receiver.process.life == receiver.life:
            receiver.process.deliver(lambda: receiver.take(message) if receiver.open else None)

    def close(self, end: End) -> None:
        """End one side; the other learns of it if the path carries, else never."""
        if not end.open:
            return
        end.open = False
        other = self.server if end is self.client else self.client
        if self._network.carries(end.process.name, other.process.name):
            self._network.timeline.after(self._delay(end), lambda: self._end(other))
        self._forget()

    def _delay(self, sender: End) -> float:
        """Return how long what is sent from that end takes now."""
        delay = self._network.delay(self._random)
        if sender is not self.client:
            return delay
        return delay + max(0.0, self._held_until - self._network.timeline.now)

    def reset(self) -> None:
        """End both sides, as a broken middle does."""
        for end in (self.client, self.server):
            self._end(end)

    def _end(self, end: End) -> None:
        if end.open and end.process.life == end.life:
            end.process.deliver(lambda: self._tell(end))
        else:
            end.open = False
        self._forget()

    def _tell(self, end: End) -> None:
        if end.open:
            end.open = False
            end.ended()
        self._forget()

    def _damage(self) -> None:
        if not self.damaged:
            self.damaged = True
            seconds = self._random.uniform(*RESET_SECONDS)
            self._network.timeline.after(seconds, self.reset)

    def _forget(self) -> None:
        if not (self.client.open or self.server.open) and self in self._network.streams:
            self._network.streams.remove(self)


def drop_process(network: Network, process: Process) -> None:
    """Have a dead process's streams end: its kernel says so to whoever can hear it."""
    for stream in list(network.streams):
        for end in (stream.client, stream.server):
            if end.process is process:
                stream.close(end)
