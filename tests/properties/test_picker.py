"""What holds of the picker whatever comes, in whatever order: Hypothesis drives it."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from skerry.fleet.routing import RoutingPolicy
from workload_plane.picker.deployments import Seen
from workload_plane.picker.facts import (
    DeploymentTold,
    Entry,
    Facts,
    PeerLoad,
    PeerTold,
    ReplicaTold,
)
from workload_plane.picker.hosts import saturation
from workload_plane.picker.pending import Pace, Pending
from workload_plane.picker.picker import TICKET_SECONDS_MAX, Picker
from workload_plane.picker.prefix_tree import PrefixTree, length_by_replica
from workload_plane.picker.waiting import Waiter, WaitingQueue

BLOCKS = st.lists(st.integers(0, 4), max_size=8)


def chained(values: list[int]) -> tuple[int, ...]:
    """Return what stands for the chained hashes of the blocks: every prefix is its own block."""
    return tuple(hash(tuple(values[: end + 1])) for end in range(len(values)))


class TreeBesideModel(RuleBasedStateMachine):
    """The tree gives the same lengths as looking through every prompt that was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = PrefixTree(blocks_max=10_000)
        self.sent: dict[int, set[tuple[int, ...]]] = {}

    @rule(replica=st.integers(0, 3), values=BLOCKS)
    def learn(self, replica: int, values: list[int]) -> None:
        self.tree.learn(replica, chained(values))
        self.sent.setdefault(replica, set()).add(tuple(values))

    @rule(replica=st.integers(0, 3))
    def forget(self, replica: int) -> None:
        self.tree.forget(replica)
        self.sent.pop(replica, None)

    @rule(values=BLOCKS)
    def match(self, values: list[int]) -> None:
        found = length_by_replica(self.tree.matches(chained(values)), range(4))
        expected = {
            replica: length
            for replica, prompts in self.sent.items()
            if (length := max(_common(values, prompt) for prompt in prompts))
        }
        assert found == expected


def _common(one: list[int], other: tuple[int, ...]) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


TestTreeBesideModel = TreeBesideModel.TestCase


@given(prompts=st.lists(st.tuples(st.integers(0, 2), BLOCKS), max_size=40))
def test_a_replica_never_holds_more_than_the_bound_and_beginnings_outlive_ends(
    prompts: list[tuple[int, list[int]]],
) -> None:
    tree = PrefixTree(blocks_max=5)
    for replica, values in prompts:
        tree.learn(replica, chained(values))
        assert all(size <= 5 for size in tree.sizes().values())
        found = length_by_replica(tree.matches(chained(values)), [replica])
        assert found.get(replica, 0) == min(5, len(values))


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "wait"]),
            st.integers(0, 5),
            st.floats(0, 10_000),
        ),
        max_size=60,
    )
)
def test_pending_tokens_never_go_below_zero_and_end_at_zero(
    steps: list[tuple[str, int, float]],
) -> None:
    pending, now, tickets = Pending(Pace(1000.0)), 0.0, 0
    for what, ticket, amount in steps:
        if what == "add":
            tickets += 1
            pending.add(tickets, amount, now)
        elif what == "remove":
            pending.remove(ticket)
        else:
            now += amount / 1000
        assert pending.tokens(now) >= -1e-6
        assert pending.tokens(now) <= sum(pending.left.values()) + 1e-6
    assert pending.tokens(now + 1e6) == 0.0


class Steering(RuleBasedStateMachine):
    """No request goes where none may go, and no count is ever lost."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.picker = Picker()
        self.now = 0.0
        self.replicas: dict[str, bool] = {}
        self.sick: set[str] = set()
        self.peers = ("p1", "p2")
        self.policy = RoutingPolicy.PREFIX_TOKENS
        self.tell()

    def tell(self) -> None:
        told = DeploymentTold(
            "d",
            policy=self.policy,
            replicas=tuple(
                ReplicaTold(name, f"{name}:1", f"{name}:2", draining)
                for name, draining in self.replicas.items()
            ),
            peers=tuple(PeerTold(name, f"{name}:9", rank) for rank, name in enumerate(self.peers)),
            concurrent_requests=4,
            queue_requests_max=8,
            hold_seconds=5.0,
        )
        self.picker.update([told], self.now)
        self.look()

    def look(self) -> None:
        seen = {name: Seen(name not in self.sick, 0) for name in self.replicas}
        self.picker.look({"d": seen}, self.now)

    @rule(name=st.sampled_from("abcd"), draining=st.booleans())
    def serve(self, name: str, draining: bool) -> None:
        self.replicas[name] = draining
        self.tell()

    @rule(name=st.sampled_from("abcd"))
    def end(self, name: str) -> None:
        self.replicas.pop(name, None)
        self.sick.discard(name)
        self.tell()

    @rule(name=st.sampled_from("abcd"), sick=st.booleans())
    def judge(self, name: str, sick: bool) -> None:
        (self.sick.add if sick else self.sick.discard)(name)
        self.look()

    @rule(policy=st.sampled_from(list(RoutingPolicy)))
    def change_policy(self, policy: RoutingPolicy) -> None:
        self.policy = policy
        self.tell()

    @rule(peer=st.sampled_from(["p1", "p2", "p3"]), busy=st.integers(0, 12) | st.none())
    def hear(self, peer: str, busy: int | None) -> None:
        self.picker.peer_loads(peer, None if busy is None else {"d": PeerLoad(busy, 1)})

    @rule(target=tickets, values=BLOCKS, session=st.integers(0, 3), forwarded=st.booleans())
    def pick(self, values: list[int], session: int, forwarded: bool) -> int:
        facts = Facts(
            "d", chained(values), tokens=len(values) * 512.0, session=session, forwarded=forwarded
        )
        choice = self.picker.pick(facts, self.now)
        if choice is None:
            assert forwarded
            return 0
        fit = {n for n, draining in self.replicas.items() if not draining and n not in self.sick}
        allowed = fit if forwarded else fit | set(self.peers)
        assert choice.held or choice.host in allowed
        assert all(address.partition(":")[0] in allowed for address in choice.addresses)
        return choice.ticket

    @rule(ticket=tickets, name=st.sampled_from(["a", "b", "p1", "gone"]), first=st.booleans())
    def hear_of(self, ticket: int, name: str, first: bool) -> None:
        address = f"{name}:9" if name.startswith("p") else f"{name}:1"
        self.picker.note(an_entry(ticket, address, ended=False, first=first), self.now)

    @rule(ticket=consumes(tickets), name=st.sampled_from(["a", "b", "p1", "gone", ""]))
    def finish(self, ticket: int, name: str) -> None:
        address = f"{name}:9" if name.startswith("p") else f"{name}:1" if name else ""
        self.picker.note(an_entry(ticket, address), self.now)

    @rule(ticket=tickets, attempt=st.integers(1, 3))
    def come_to_the_room(self, ticket: int, attempt: int) -> None:
        if self.picker.enter_room(ticket, attempt, self.now) is not None:
            again = self.picker.enter_room(ticket, attempt, self.now)
            assert attempt == 1 or again is None

    @rule(ticket=tickets)
    def leave_the_room(self, ticket: int) -> None:
        self.picker.place(ticket, self.now)

    @rule(seconds=st.floats(0.1, 3.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.picker.expire(self.now)

    @invariant()
    def counts_fit(self) -> None:
        deployment = self.picker.deployment("d")
        assert deployment is not None
        counts = [host.open for host in deployment.replicas.values()]
        counts += [peer.open for peer in deployment.peers.values()]
        assert all(count >= 0 for count in counts)
        assert sum(counts) <= self.picker.open_tickets

    def teardown(self) -> None:
        self.picker.expire(self.now + 2 * TICKET_SECONDS_MAX)
        deployment = self.picker.deployment("d")
        assert deployment is not None
        assert self.picker.open_tickets == 0
        for host in deployment.replicas.values():
            assert (host.open, host.pending.tokens(self.now)) == (0, 0.0)


def an_entry(ticket: int, address: str, *, ended: bool = True, first: bool = True) -> Entry:
    return Entry(ticket, address, 200, "", 100 if first else None, 400, 10, 10, 1, ended)


TestSteering = Steering.TestCase


@given(
    names=st.lists(st.text("abcdef", min_size=1, max_size=8), min_size=2, max_size=8, unique=True),
    session=st.integers(1, 2**64 - 1),
)
def test_every_gateway_finds_the_same_replica_for_a_session(names: list[str], session: int) -> None:
    def chosen(order: list[str]) -> str:
        picker = Picker()
        replicas = tuple(ReplicaTold(name, f"{name}:1", f"{name}:2") for name in order)
        picker.update([DeploymentTold("d", RoutingPolicy.SESSION, replicas=replicas)], 0.0)
        choice = picker.pick(Facts("d", session=session), 0.0)
        assert choice is not None
        return choice.host

    first = chosen(names)
    assert chosen(list(reversed(names))) == first
    rest = [name for name in names if name != first]
    removed = rest[0]
    # Sessions of the others stay where they are when one replica goes.
    assert chosen([name for name in names if name != removed]) == first


@settings(max_examples=50)
@given(
    offers=st.lists(
        st.tuples(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 2)),
        min_size=1,
        max_size=60,
    ),
    gone=st.sets(st.integers(0, 59), max_size=5),
    bound=st.integers(0, 10),
)
def test_the_queue_keeps_its_bound_and_loses_nobody_unsaid(
    offers: list[tuple[tuple[int, int], int]], gone: set[int], bound: int
) -> None:
    queue = WaitingQueue(bound)
    lost: list[Waiter] = []
    for number, (tenant, priority) in enumerate(offers):
        waiter = Waiter(number=number, tenant=tenant, priority=priority, since=number, deadline=1e9)
        lost += queue.offer(waiter)
        assert len(queue) <= bound
    left_alone = {one.number for one in queue.waiters()} & gone
    for number in gone:
        queue.remove(number)
    taken = queue.take(len(offers))
    seen = sorted([*left_alone, *(one.number for one in (*lost, *taken))])
    assert seen == list(range(len(offers)))
    assert [one.priority for one in taken] == sorted(one.priority for one in taken)
    for priority in range(3):
        same = [one for one in taken if one.priority == priority]
        assert take_turns([one.tenant[0] for one in same])
        for address in range(3):
            assert take_turns([one.tenant[1] for one in same if one.tenant[0] == address])


def take_turns(order: list[int]) -> bool:
    """Say whether nobody with something left is ever two turns behind."""
    served: Counter[int] = Counter()
    left = Counter(order)
    for one in order:
        served[one] += 1
        left[one] -= 1
        if any(served[other] < served[one] - 1 for other, count in left.items() if count):
            return False
    return True


@given(concurrent=st.integers(1, 1000))
def test_an_engine_is_kept_busy_but_never_flooded(concurrent: int) -> None:
    assert concurrent < saturation(concurrent) <= 1.25 * concurrent + 2
