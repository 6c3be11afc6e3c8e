"""Who waits, who is sent on, and what is said to those who can't be."""

from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from workload_plane.picker.deployments import Seen
from workload_plane.picker.facts import (
    DeploymentTold,
    Entry,
    Facts,
    PeerLoad,
    PeerTold,
    ReplicaTold,
)
from workload_plane.picker.picker import Picker
from workload_plane.picker.room import AGAIN, Asked, Room, Verdict
from workload_plane.picker.room_http import read_asked

ASKED = Asked(deployment="d")


class World:
    def __init__(self, *names: str, **more: Any) -> None:
        self.clock = FakeClock()
        self.picker = Picker()
        self.room = Room(self.picker, self.clock)
        self.told: dict[str, list[Verdict]] = {}
        self.serve(*names, **more)

    def serve(self, *names: str, **more: Any) -> None:
        told = DeploymentTold(
            "d",
            replicas=tuple(ReplicaTold(name, f"{name}:1", f"{name}:2") for name in names),
            queue_requests_max=3,
            hold_seconds=30.0,
        )
        self.picker.update([told._replace(**more)], self.clock.monotonic())
        self.picker.look({"d": {name: Seen(True, 0) for name in names}}, self.clock.monotonic())

    def enter(self, name: str, asked: Asked = ASKED) -> int | None:
        verdicts = self.told.setdefault(name, [])
        return self.room.enter(asked, verdicts.append)


def test_a_request_is_held_until_a_replica_is_there_and_fit() -> None:
    world = World()
    world.enter("one")
    world.serve("a")
    world.picker.look({"d": {"a": Seen(None, 0)}}, 0.0)
    world.room.tick()
    assert world.told["one"] == []
    world.picker.look({"d": {"a": Seen(True, 0)}}, 0.0)
    world.room.tick()
    assert world.told["one"] == [AGAIN]
    assert world.room.waiting == 0


@pytest.mark.parametrize("look", [None, {"d": {"a": Seen(True, 0, ejected=True)}}])
def test_nobody_is_sent_on_where_the_gateway_would_send_them_back(
    look: dict[str, dict[str, Seen]] | None,
) -> None:
    """Its admin page is late, or the only replica is put out: who comes back is refused at once."""
    world = World()
    world.picker.look({"d": {}}, 0.0)
    world.enter("one")
    world.serve("a")
    world.picker.look(look, 0.0)
    world.room.tick()
    world.room.wake()
    assert world.told["one"] == []
    newcomer = world.picker.pick(Facts("d"), 0.0)
    assert newcomer is not None
    assert not newcomer.held  # the picker's own word the gateway takes: nobody is overtaken by it
    world.picker.look({"d": {"a": Seen(True, 0)}}, 0.0)
    world.room.tick()
    assert world.told["one"] == [AGAIN]


def test_no_more_are_sent_on_than_the_engines_take() -> None:
    world = World()
    for name in ("one", "two", "three"):
        world.enter(name)
    world.serve("a", concurrent_requests=1)
    replica = world.picker.deployments["d"].replicas["a"]
    replica.untracked = 1  # one of three places is taken
    world.room.tick()
    assert list(world.told.values()) == [[AGAIN], [AGAIN], []]


def test_a_newcomer_goes_behind_who_waits_and_a_place_that_is_freed_is_the_oldest_ones() -> None:
    world = World("a", concurrent_requests=1)
    running = [world.picker.pick(Facts("d"), 0.0) for _ in range(3)]
    first = world.picker.pick(Facts("d"), 0.0)
    assert first is not None
    assert first.held
    world.enter("first", Asked(deployment="d", ticket=first.ticket))
    assert running[0] is not None
    world.picker.note(Entry(running[0].ticket, "a:1", 200, "", 1, 2, 1, 1, 1, True), 0.0)
    newcomer = world.picker.pick(Facts("d"), 0.0)  # before anybody woke the room
    assert newcomer is not None
    assert newcomer.held
    world.enter("newcomer", Asked(deployment="d", ticket=newcomer.ticket))
    assert world.told == {"first": [AGAIN], "newcomer": []}


def test_only_the_more_urgent_pass_who_waits_and_what_a_peer_or_a_broken_stream_asks() -> None:
    world = World("a", concurrent_requests=2, priority=1)
    world.picker.deployments["d"].replicas["a"].untracked = 4
    world.enter("waits", Asked(deployment="d", priority=5))
    world.picker.deployments["d"].replicas["a"].untracked = 0

    def is_held(facts: Facts) -> bool:
        choice = world.picker.pick(facts, 0.0)
        assert choice is not None
        return choice.held

    assert [is_held(Facts("d", priority=p)) for p in (5, 7, 4)] == [True, True, False]
    assert not is_held(Facts("d", forwarded=True))
    assert not is_held(Facts("d", avoided=(("", "gone"),)))
    world.room.wake()
    assert world.told == {"waits": [AGAIN]}


def test_a_full_queue_lets_its_first_go_before_it_turns_a_newcomer_away() -> None:
    world = World("a", concurrent_requests=1)
    world.picker.deployments["d"].replicas["a"].untracked = 3
    choices = [world.picker.pick(Facts("d"), 0.0) for _ in range(4)]
    asked = [Asked(deployment="d", ticket=one.ticket) for one in choices if one is not None]
    for name, one in zip(("one", "two", "three"), asked[:3], strict=True):
        world.enter(name, one)
    world.picker.deployments["d"].replicas["a"].untracked = 2
    world.enter("four", asked[3])
    assert world.told == {"one": [AGAIN], "two": [], "three": [], "four": []}


def test_where_nobody_of_the_room_may_go_newcomers_go_as_before() -> None:
    world = World(peers=(PeerTold("p", "p:9", 1),))
    world.picker.look({"d": {"p": Seen(False, 0)}}, 0.0)
    world.enter("waits")
    world.picker.look({"d": {"p": Seen(None, 0)}}, 0.0)  # a peer that is not judged yet
    choice = world.picker.pick(Facts("d"), 0.0)
    assert choice is not None
    assert choice.host == "p"
    world.picker.look({"d": {"p": Seen(True, 0)}}, 0.0)
    choice = world.picker.pick(Facts("d"), 0.0)
    assert choice is not None
    assert choice.held


def test_the_queue_is_bounded_and_the_heaviest_tenant_gives_way() -> None:
    world = World()
    for name in ("one", "two", "three"):
        world.enter(name, Asked(deployment="d", tenant=1))
    world.enter("other", Asked(deployment="d", tenant=2))
    assert [v[0].status if v else 0 for v in world.told.values()] == [0, 0, 429, 0]
    assert world.told["three"][0].code == "queue_full"


def test_a_request_takes_the_place_of_one_that_calls_itself_less_urgent() -> None:
    world = World(priority=2)
    for name, priority in (("one", None), ("two", 5), ("three", None)):
        world.enter(name, Asked(deployment="d", priority=priority))
    world.enter("four")
    assert [v[0].status if v else 0 for v in world.told.values()] == [0, 429, 0, 0]


def test_nobody_makes_a_request_more_urgent_than_its_deployment_is() -> None:
    world = World(priority=2)
    for name in ("one", "two", "three"):
        world.enter(name, Asked(deployment="d", address=1))
    world.enter("loud", Asked(deployment="d", address=1, priority=0))
    assert [v[0].status if v else 0 for v in world.told.values()] == [0, 0, 0, 429]


def test_a_new_credential_for_each_request_wins_no_place() -> None:
    world = World()
    for name, tenant in (("one", 11), ("two", 12), ("three", 13)):
        world.enter(name, Asked(deployment="d", address=1, tenant=tenant))
    world.enter("other", Asked(deployment="d", address=2, tenant=11))
    assert world.told["three"][0].status == 429
    world.enter("more", Asked(deployment="d", address=1, tenant=14))
    assert world.told["more"][0].status == 429
    world.serve("a", concurrent_requests=1)
    world.picker.deployments["d"].replicas["a"].untracked = 1  # two of three places are free
    world.room.tick()
    assert [name for name, told in world.told.items() if told == [AGAIN]] == ["one", "other"]


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        (b"", b""),
        (b"10.0.0.9", b"10.0.0.9"),
        (b"1.2.3.4, 10.0.0.9", b"10.0.0.9"),  # what comes before is the client's own claim
        (b"1.2.3.4, 127.0.0.1", b"127.0.0.1"),  # also that of a client on this host
    ],
)
def test_a_request_is_of_the_address_that_the_gateway_saw(
    forwarded_for: bytes, address: bytes
) -> None:
    assert read_asked({b"x-forwarded-for": forwarded_for}).address == hash(address)


def test_who_waits_goes_to_a_peer_that_is_well_again() -> None:
    world = World(peers=(PeerTold("p", "p:9", 1),))
    world.picker.look({"d": {"p": Seen(False, 0)}}, 0.0)
    for name in ("one", "two"):
        choice = world.picker.pick(Facts("d"), 0.0)
        assert choice is not None
        assert choice.held
        world.enter(name, Asked(deployment="d", ticket=choice.ticket))
    world.picker.look({"d": {"p": Seen(None, 0)}}, 1.0)
    world.room.tick()
    assert world.told == {"one": [], "two": []}  # the gateway has not looked at it yet
    world.picker.look({"d": {"p": Seen(True, 0)}}, 1.0)
    world.room.tick()
    assert world.told == {"one": [AGAIN], "two": [AGAIN]}
    assert world.picker.deployments["d"].peers["p"].open == 2


def test_no_more_go_to_a_peer_than_its_engines_take() -> None:
    world = World(peers=(PeerTold("p", "p:9", 1),), concurrent_requests=4)
    for name in ("one", "two", "three"):
        world.room.enter(Asked(deployment="d"), world.told.setdefault(name, []).append)
    world.picker.look({"d": {"p": Seen(True, 0)}}, 1.0)
    world.picker.peer_loads("p", {"d": PeerLoad(5, 1)})  # of six that it may have
    world.room.tick()
    assert list(world.told.values()) == [[AGAIN], [], []]


async def test_a_deadline_ends_the_wait_with_a_time_to_come_again() -> None:
    world = World()
    world.enter("one")
    world.clock.advance(29.0)
    world.room.tick()
    assert world.told["one"] == []
    world.clock.advance(1.1)
    world.room.tick()
    (verdict,) = world.told["one"]
    assert (verdict.status, verdict.code) == (503, "no_ready_replica")
    assert verdict.retry_after_seconds == 5


def test_who_waited_for_an_engine_that_stayed_full_is_told_by_what_nobody_tries_again() -> None:
    world = World()
    world.serve("a", concurrent_requests=1)
    world.picker.deployments["d"].replicas["a"].untracked = 3
    world.enter("one")
    world.clock.advance(30.1)
    world.room.tick()
    (verdict,) = world.told["one"]
    assert (verdict.status, verdict.code, verdict.retry_after_seconds) == (429, "replicas_busy", 5)


def test_who_is_sent_straight_back_goes_on_waiting_and_no_longer_than_before() -> None:
    world = World()
    choice = world.picker.pick(Facts("d"), 0.0)
    assert choice is not None
    first, second = (
        Asked(deployment="d", ticket=choice.ticket, attempt=attempt) for attempt in (1, 2)
    )
    world.enter("one", first)
    world.serve("a")
    world.room.tick()
    assert world.told["one"] == [AGAIN]
    world.picker.look({"d": {"a": Seen(None, 0)}}, 0.0)  # what Envoy's workers saw
    world.clock.advance(20.0)
    assert world.enter("one", second) is not None
    world.clock.advance(10.1)
    world.room.tick()
    assert [one.again for one in world.told["one"]] == [True, False]


def test_who_was_tried_at_a_replica_since_it_waited_does_not_wait_again() -> None:
    world = World()
    choice = world.picker.pick(Facts("d"), 0.0)
    assert choice is not None
    world.enter("one", Asked(deployment="d", ticket=choice.ticket))
    world.serve("a")
    world.room.tick()
    assert world.enter("one", Asked(deployment="d", ticket=choice.ticket, attempt=3)) is None


def test_who_was_here_before_or_has_no_queue_is_answered_at_once() -> None:
    world = World()
    assert world.enter("again", Asked(deployment="d", attempt=2)) is None
    assert world.told["again"][0].status == 503
    assert World(queue_requests_max=0).enter("one") is None
    assert world.enter("stranger", Asked(deployment="other")) is None


def test_who_goes_away_is_forgotten() -> None:
    world = World()
    number = world.enter("one")
    assert number is not None
    world.room.leave(number)
    world.serve("a")
    world.room.tick()
    assert (world.told["one"], world.room.waiting) == ([], 0)


def test_a_deployment_that_goes_takes_nobody_with_it_unsaid() -> None:
    world = World()
    world.enter("one")
    world.picker.update([], 0.0)
    world.room.tick()
    assert world.told["one"][0].status == 503


def test_who_waits_for_one_deployment_does_not_hide_who_waits_for_another() -> None:
    world = World()
    more = [DeploymentTold(name, queue_requests_max=3, hold_seconds=30.0) for name in ("d", "e")]
    world.picker.update(more, world.clock.monotonic())
    seen = [world.room.waited_for]
    for name in ("d", "d", "e"):
        world.enter(name, Asked(deployment=name))
        seen.append(world.room.waited_for)
    assert seen == [frozenset(), {"d"}, {"d"}, {"d", "e"}]
