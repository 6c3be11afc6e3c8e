"""Nobody overtakes who waits, and nobody is forgotten there: Hypothesis drives picker and room."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes.clock import FakeClock
from workload_plane.picker.deployments import Seen
from workload_plane.picker.facts import DeploymentTold, Entry, Facts, ReplicaTold
from workload_plane.picker.picker import Picker
from workload_plane.picker.room import AGAIN, Asked, Room, Verdict

PRIORITY = 1


@dataclass
class Sent:
    """One request: whose it is, and which addresses had a turn while it waited for its own."""

    ticket: int
    address: int
    priority: int
    of: set[int] = field(default_factory=set)


class Turns(RuleBasedStateMachine):
    """One deployment of two replicas that take three requests each."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.picker = Picker()
        self.room = Room(self.picker, self.clock)
        self.sick: set[str] = set()
        self.running: list[Sent] = []
        self.waiting: list[Sent] = []
        names = ("a", "b")
        told = DeploymentTold(
            "d",
            priority=PRIORITY,
            replicas=tuple(ReplicaTold(name, f"{name}:1", f"{name}:2") for name in names),
            concurrent_requests=1,
            queue_requests_max=12,
            hold_seconds=1e6,
        )
        self.picker.update([told], 0.0)
        self.look()

    def look(self) -> None:
        seen = {name: Seen(name not in self.sick, 0) for name in ("a", "b")}
        self.picker.look({"d": seen}, self.clock.monotonic())

    @rule(address=st.integers(1, 3), asked=st.sampled_from([None, 0, 1, 1, 3]))
    def arrive(self, address: int, asked: int | None) -> None:
        before = list(self.waiting)
        choice = self.picker.pick(Facts("d", priority=asked), self.clock.monotonic())
        assert choice is not None
        urgency = max(PRIORITY, asked or 0)
        sent = Sent(choice.ticket, address, urgency)
        if not choice.held:
            assert all(one.priority > urgency for one in before), "overtook who waits"
            self.running.append(sent)
            return
        self.room.wake()  # what was free before it came is for who was there before it came
        self.waiting.append(sent)
        about = Asked(deployment="d", ticket=choice.ticket, address=address, priority=asked)
        self.room.enter(about, lambda verdict: self.told(sent, verdict))

    def told(self, sent: Sent, verdict: Verdict) -> None:
        self.waiting.remove(sent)
        if verdict is not AGAIN:
            assert (verdict.status, verdict.code) == (429, "queue_full")
            self.close(sent)
            return
        assert all(one.priority >= sent.priority for one in self.waiting), "the less urgent first"
        for one in self.waiting:
            if one.priority == sent.priority and one.address != sent.address:
                assert sent.address not in one.of, "twice before another's first turn"
                one.of.add(sent.address)
        for one in self.waiting:
            if (one.priority, one.address) == (sent.priority, sent.address):
                one.of.clear()
        self.running.append(sent)

    def close(self, sent: Sent, address: str = "") -> None:
        entry = Entry(sent.ticket, address, 200, "", 1, 2, 1, 1, 1, True)
        self.picker.note(entry, self.clock.monotonic())

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        sent = data.draw(st.sampled_from(self.running))
        self.running.remove(sent)
        self.close(sent)

    @rule()
    def wake(self) -> None:
        self.room.wake()
        deployment = self.picker.deployment("d")
        assert deployment is not None
        free = deployment.room(self.clock.monotonic())
        assert not self.waiting or free == 0, "waits beside a free place"

    @rule(name=st.sampled_from("ab"), sick=st.booleans())
    def judge(self, name: str, sick: bool) -> None:
        (self.sick.add if sick else self.sick.discard)(name)
        self.look()
        self.room.tick()

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert self.room.waiting == len(self.waiting)

    def teardown(self) -> None:
        self.sick.clear()
        self.look()
        self.room.tick()
        while self.running:
            sent = self.running.pop()
            self.close(sent)
            self.room.wake()
        assert self.waiting == []


Turns.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestTurns = Turns.TestCase
