"""What the picker does in each situation, one promise a test; time is a number."""

from typing import Any

import pytest

from skerry.fleet.routing import RoutingPolicy
from skerry.plumbing.errors import Corrupt
from workload_plane.picker.counts import (
    FIRST_BYTE_SECONDS,
    Answers,
    Counters,
    parse_counters,
    render_counters,
)
from workload_plane.picker.deployments import Seen
from workload_plane.picker.facts import (
    Choice,
    DeploymentTold,
    Entry,
    Facts,
    PeerLoad,
    PeerTold,
    ReplicaTold,
)
from workload_plane.picker.picker import TICKET_SECONDS_MAX, Picker

NOW = 1000.0
PROMPT = tuple(range(100, 120))
REQUEST = Facts("d", blocks=PROMPT, tokens=20 * 512.0)
PLAIN = Facts("d")


def a_picker(*names: str, peers: int = 0, **more: Any) -> Picker:
    picker = Picker()
    picker.update([a_deployment(*names, peers=peers, **more)], NOW)
    return picker


def a_deployment(*names: str, peers: int = 0, **more: Any) -> DeploymentTold:
    told = DeploymentTold(
        "d",
        replicas=tuple(ReplicaTold(name, f"{name}:1", f"{name}:2") for name in names),
        peers=tuple(PeerTold(f"p{n}", f"p{n}:9", n) for n in range(1, peers + 1)),
    )
    return told._replace(**more)


def pick(picker: Picker, facts: Facts = PLAIN, now: float = NOW) -> Choice:
    choice = picker.pick(facts, now)
    assert choice is not None
    return choice


def ends(picker: Picker, choice: Choice, now: float = NOW, **more: Any) -> None:
    address = choice.addresses[0] if choice.addresses else ""
    entry = Entry(choice.ticket, address, 200, "", 50, 60, 10, 10, 1, True)
    picker.note(entry._replace(**more), now)


def test_a_prompt_returns_to_the_replica_that_has_it() -> None:
    picker = a_picker("a", "b", "c")
    first = pick(picker, REQUEST)
    ends(picker, first)
    for _ in range(5):
        again = pick(picker, REQUEST)
        assert (again.host, again.cached_tokens) == (first.host, 20 * 512.0)
        ends(picker, again)


def test_a_long_queue_of_prompts_outweighs_a_cached_prefix() -> None:
    picker = a_picker("a", "b")
    home = pick(picker, REQUEST).host
    picker.deployments["d"].replicas[home].pending.add(-1, 200_000.0, NOW)
    assert pick(picker, REQUEST).host != home


def test_pending_prompts_are_read_at_the_learned_pace() -> None:
    picker = a_picker("a")
    pick(picker, Facts("d", tokens=8000.0))
    deployment = picker.deployment("d")
    assert deployment is not None
    pending = deployment.replicas["a"].pending
    assert pending.tokens(NOW) == 8000
    assert pending.tokens(NOW + 1) == pytest.approx(8000 - deployment.pace.tokens_per_second)
    for _ in range(60):
        choice = pick(picker, Facts("d", tokens=1000.0), NOW + 100)
        # A stream whose first byte came after 2 s: the engine reads 500 tokens a second.
        ends(picker, choice, NOW + 100, first_byte_ms=2000, duration_ms=9000)
    assert deployment.pace.tokens_per_second == pytest.approx(500, rel=0.05)


def test_the_first_byte_frees_the_prompt_and_the_end_frees_the_place() -> None:
    picker = a_picker("a")
    choice = pick(picker, REQUEST)
    deployment = picker.deployment("d")
    assert deployment is not None
    host = deployment.replicas["a"]
    ends(picker, choice, ended=False)
    assert (host.open, host.pending.tokens(NOW)) == (1, 0.0)
    ends(picker, choice)
    assert host.open == 0


@pytest.mark.parametrize("policy", [RoutingPolicy.LEAST_REQUEST, RoutingPolicy.LEAST_TOKENS])
def test_equal_requests_are_shared_evenly(policy: RoutingPolicy) -> None:
    picker = a_picker("a", "b", "c", policy=policy)
    hosts = [pick(picker, REQUEST).host for _ in range(9)]
    assert sorted(hosts) == list("aaabbbccc")


def test_one_request_after_another_goes_round() -> None:
    picker = a_picker("a", "b", policy=RoutingPolicy.LEAST_REQUEST)
    hosts = []
    for _ in range(4):
        choice = pick(picker)
        ends(picker, choice)
        hosts.append(choice.host)
    assert hosts == ["a", "b", "a", "b"]


def test_a_session_moves_only_when_its_replica_is_above_the_bound() -> None:
    picker = a_picker("a", "b", "c", policy=RoutingPolicy.SESSION)
    mine = Facts("d", session=42)
    home = pick(picker, mine).host
    assert pick(picker, Facts("d", session=42)).host != home  # two of two there, 1.25 is the bound
    for number in range(30):
        pick(picker, Facts("d", session=1000 + number))
    counts = [host.open for host in picker.deployments["d"].replicas.values()]
    assert max(counts) <= 14  # 32 requests: 10.7 each, times 1.25


def test_spillover_begins_at_six_and_with_a_margin_of_two() -> None:
    picker = a_picker("a", peers=2)
    picker.peer_loads("p1", {"d": PeerLoad(5, 1)})
    picker.peer_loads("p2", {"d": PeerLoad(3, 2)})
    hosts = [pick(picker).host for _ in range(9)]
    assert hosts[:6] == ["a"] * 6
    assert hosts[6] == "p2"  # 3 there, and one for the longer way, against 6 here
    assert set(hosts[6:]) == {"p2", "a"}  # what was sent there counts before the next word of it


def test_the_nearer_of_two_peers_helps_unless_the_other_has_clearly_less() -> None:
    picker = a_picker("a", peers=2)
    picker.peer_loads("p1", {"d": PeerLoad(3, 1)})
    picker.peer_loads("p2", {"d": PeerLoad(2, 1)})
    assert [pick(picker).host for _ in range(7)][6] == "p1"


def test_nobody_is_sent_away_while_a_replica_here_is_idle() -> None:
    picker = a_picker("a", "b", peers=1)
    picker.peer_loads("p1", {"d": PeerLoad(0, 4)})
    hosts = []
    for _ in range(12):
        choice = pick(picker, REQUEST)
        ends(picker, choice, ended=False)
        hosts.append(choice.host)
    busiest = max(set(hosts), key=hosts.count)
    assert hosts.count(busiest) > 6  # where the prompt is cached, past the number that spills
    assert "p1" not in hosts


def test_what_is_cached_here_is_not_read_anew_at_a_peer_a_little_less_busy() -> None:
    picker = a_picker("a", peers=1)
    picker.peer_loads("p1", {"d": PeerLoad(0, 1)})
    for _ in range(6):
        ends(picker, pick(picker, REQUEST), ended=False)
    assert pick(picker, REQUEST).host == "a"
    assert pick(picker, PLAIN).host == "p1"


def test_a_session_leaves_only_when_all_here_are_full() -> None:
    picker = a_picker("a", "b", peers=1, policy=RoutingPolicy.SESSION, concurrent_requests=6)
    picker.peer_loads("p1", {"d": PeerLoad(0, 4)})
    here = [pick(picker, Facts("d", session=number)).host for number in range(18)]
    assert "p1" not in here  # nine places each
    assert pick(picker, Facts("d", session=3)).host == "p1"


def test_full_engines_of_few_places_spill_before_anybody_waits() -> None:
    picker = a_picker("a", peers=1, concurrent_requests=1, queue_requests_max=8, hold_seconds=5.0)
    picker.peer_loads("p1", {"d": PeerLoad(0, 1)})
    choices = [pick(picker) for _ in range(4)]
    assert [choice.host for choice in choices] == ["a", "a", "a", "p1"]


def test_nothing_is_spilled_to_a_peer_of_unknown_load_or_to_none_that_is_listed() -> None:
    picker = a_picker("a", peers=1)
    picker.peer_loads("stranger", {"d": PeerLoad(0, 4)})
    assert {pick(picker).host for _ in range(20)} == {"a"}
    picker.peer_loads("p1", {"d": PeerLoad(0, 0)})  # it has no replica
    assert {pick(picker).host for _ in range(20)} == {"a"}


def test_what_a_peer_forwarded_is_never_forwarded_again() -> None:
    picker = a_picker("a", peers=1)
    picker.peer_loads("p1", {"d": PeerLoad(0, 4)})
    forwarded = Facts("d", forwarded=True)
    assert {pick(picker, forwarded).host for _ in range(20)} == {"a"}
    alone = a_picker(peers=1, queue_requests_max=8, hold_seconds=5.0)
    assert alone.pick(forwarded, NOW) is None


def test_without_a_replica_the_nearest_peer_is_asked() -> None:
    choice = pick(a_picker(peers=2))
    assert choice.addresses == ("p1:9", "p2:9")


def test_without_a_replica_no_more_go_to_a_peer_than_its_engines_take() -> None:
    waiting = {"queue_requests_max": 8, "hold_seconds": 5.0, "concurrent_requests": 4}
    picker = a_picker(peers=1, **waiting)
    picker.look({"d": {"p1": Seen(True, 0)}}, NOW)
    picker.peer_loads("p1", {"d": PeerLoad(3, 1)})  # of six that it may have
    first = [pick(picker) for _ in range(3)]
    assert [choice.host for choice in first] == ["p1"] * 3
    assert pick(picker).held
    ends(picker, first[0])
    assert [pick(picker).held for _ in range(2)] == [False, True]
    full = a_picker(peers=1, **{**waiting, "queue_requests_max": 0})
    full.peer_loads("p1", {"d": PeerLoad(6, 1)})
    assert pick(full).host == "p1"  # nobody may wait: the engine there queues by itself


def test_a_peer_of_unknown_load_is_not_taken_for_an_idle_one() -> None:
    picker = a_picker(peers=2, queue_requests_max=8, hold_seconds=5.0, concurrent_requests=4)
    picker.peer_loads("p2", {"d": PeerLoad(2, 1)})
    assert pick(picker).host == "p2"
    picker.peer_loads("p2", {"d": PeerLoad(6, 1)})
    assert pick(picker).host == "p1"  # better than one that is known to be full
    picker.peer_loads("p1", {"d": PeerLoad(6, 1)})
    assert pick(picker).held


def test_a_retry_leaves_the_plane_whose_replicas_may_all_have_died_at_once() -> None:
    choice = pick(a_picker("a", "b", peers=2))
    assert choice.addresses[1:] == ("p1:9",)


@pytest.mark.parametrize(("peers", "forwarded"), [(0, False), (2, True)])
def test_a_retry_that_may_go_to_no_peer_goes_to_the_next_replica(
    peers: int, forwarded: bool
) -> None:
    choice = pick(a_picker("a", "b", peers=peers), Facts("d", forwarded=forwarded))
    assert set(choice.addresses) == {"a:1", "b:1"}


def test_a_replica_that_fell_ill_is_left_and_its_cache_forgotten() -> None:
    picker = a_picker("a", "b")
    home = pick(picker, REQUEST).host
    other = "b" if home == "a" else "a"
    picker.look({"d": {home: Seen(False, 0), other: Seen(True, 0)}}, NOW)
    assert pick(picker, REQUEST).host == other
    picker.look({"d": {home: Seen(True, 0), other: Seen(True, 0)}}, NOW)
    assert picker.deployments["d"].tree.sizes().keys() == {
        picker.deployments["d"].replicas[other].index
    }


def test_a_replica_that_failed_a_request_is_suspect_for_two_seconds() -> None:
    picker = a_picker("a", "b")
    choice = pick(picker)
    other = "b" if choice.host == "a" else "a"
    # It was tried again at the other one.
    ends(picker, choice, address=f"{other}:1", attempts=2)
    assert {pick(picker).host for _ in range(4)} == {other}
    assert {pick(picker, now=NOW + 2.1).host for _ in range(8)} == {"a", "b"}


def test_a_host_the_gateway_does_not_know_yet_is_not_chosen() -> None:
    picker = a_picker("a", "b")
    picker.look({"d": {"a": Seen(True, 0), "b": Seen(None, 0)}}, NOW)
    assert {pick(picker).host for _ in range(4)} == {"a"}


def test_with_the_gateway_unknown_what_is_told_is_used() -> None:
    picker = a_picker("a", "b")
    picker.look(None, NOW)
    assert {pick(picker).host for _ in range(4)} == {"a", "b"}


def test_requests_nobody_asked_about_are_counted_all_the_same() -> None:
    picker = a_picker("a", "b", policy=RoutingPolicy.LEAST_REQUEST)
    picker.look({"d": {"a": Seen(True, 3), "b": Seen(True, 0)}}, NOW)
    assert [pick(picker).host for _ in range(3)] == ["b", "b", "b"]


def test_a_full_engine_sends_the_rest_to_the_waiting_room() -> None:
    picker = a_picker("a", concurrent_requests=2, queue_requests_max=8, hold_seconds=5.0)
    picker.look({"d": {"a": Seen(True, 0)}}, NOW)  # who waits goes only where that is known
    choices = [pick(picker) for _ in range(5)]
    assert [choice.held for choice in choices] == [False] * 4 + [True]
    assert picker.deployments["d"].room(NOW) == 0
    ends(picker, choices[0])
    assert picker.deployments["d"].room(NOW) == 1


def test_without_a_queue_a_full_engine_queues_by_itself() -> None:
    picker = a_picker("a", concurrent_requests=1)
    assert not any(pick(picker).held for _ in range(20))


def test_an_engine_that_refuses_teaches_its_limit_and_it_grows_back() -> None:
    picker = a_picker("a")
    choices = [pick(picker) for _ in range(10)]
    host = picker.deployments["d"].replicas["a"]
    ends(picker, choices[0], status=429)
    assert host.limit == 9
    picker.look({"d": {"a": Seen(True, 0)}}, NOW + 11)
    assert host.limit == 11
    picker.look({"d": {"a": Seen(True, 0)}}, NOW + 22)
    assert host.limit == 13


@pytest.mark.parametrize("concurrent_requests", [0, 64])
@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_by_an_engine_that_is_not_half_full_teaches_nothing(
    concurrent_requests: int, status: int
) -> None:
    picker = a_picker("a", concurrent_requests=concurrent_requests)
    host = picker.deployments["d"].replicas["a"]
    before = host.limit
    ends(picker, pick(picker), status=status)
    assert host.limit == before


def test_no_limit_is_learned_below_half_of_an_engines_places() -> None:
    picker = a_picker("a", concurrent_requests=64)
    host = picker.deployments["d"].replicas["a"]
    for choice in [pick(picker) for _ in range(50)]:
        ends(picker, choice, status=429)
    assert host.limit == 32
    for second in range(0, 61, 10):
        picker.look({"d": {"a": Seen(True, 0)}}, NOW + 10 + second)
    assert host.limit == 81  # all of it again within a minute


def test_an_engine_that_was_ill_has_no_limit_of_before() -> None:
    picker = a_picker("a", concurrent_requests=64)
    host = picker.deployments["d"].replicas["a"]
    for choice in [pick(picker) for _ in range(50)]:
        ends(picker, choice, status=429)
    picker.look({"d": {"a": Seen(False, 0)}}, NOW + 1)
    picker.look({"d": {"a": Seen(True, 0)}}, NOW + 2)
    assert host.limit == 81


def test_a_refusal_over_grpc_teaches_as_one_over_http_does() -> None:
    picker = a_picker("a")
    host = picker.deployments["d"].replicas["a"]
    choices = [pick(picker, Facts("d", is_grpc=True)) for _ in range(10)]
    ends(picker, choices[0], status=200, grpc_status=0)
    ends(picker, choices[1], status=200, grpc_status=8)
    assert host.limit == 8


def test_who_loses_the_only_replica_may_wait_for_the_next_and_it_is_suspect_at_once() -> None:
    picker = a_picker("a", queue_requests_max=8, hold_seconds=5.0)
    choice = pick(picker)
    assert (choice.may_wait, choice.addresses) == (True, ("a:1",))
    assert picker.enter_room(choice.ticket, 2, NOW) == NOW
    assert picker.deployments["d"].replicas["a"].open == 0
    assert picker.deployments["d"].usable(NOW) == []
    assert picker.enter_room(choice.ticket, 2, NOW) is None  # not a second time


def test_who_may_be_tried_elsewhere_does_not_wait_behind_it() -> None:
    picker = a_picker("a", "b", queue_requests_max=8, hold_seconds=5.0)
    choice = pick(picker)
    assert not choice.may_wait
    assert picker.enter_room(choice.ticket, 2, NOW) is None


def test_the_rooms_answer_is_not_blamed_on_the_replica() -> None:
    picker = a_picker("a", queue_requests_max=8, hold_seconds=5.0)
    host = picker.deployments["d"].replicas["a"]
    choices = [pick(picker) for _ in range(20)]
    limit = host.limit
    ends(picker, choices[0], address="/run/room.sock", status=429, attempts=2)
    assert (host.limit, host.open) == (limit, 19)
    assert host.suspect_until > NOW  # but what sent it there is


def test_who_waited_and_went_elsewhere_than_guessed_makes_nobody_suspect() -> None:
    picker = a_picker("a", "b", concurrent_requests=1, queue_requests_max=8, hold_seconds=5.0)
    open_ones = [pick(picker) for _ in range(6)]
    held = pick(picker)
    assert held.held
    assert picker.enter_room(held.ticket, 1, NOW) == NOW
    for choice in open_ones:
        ends(picker, choice)
    picker.place(held.ticket, NOW)
    guessed = next(h for h in picker.deployments["d"].replicas.values() if h.open)
    other = "b" if guessed.name == "a" else "a"
    ends(picker, held, address=f"{other}:1", attempts=2)
    assert len(picker.deployments["d"].usable(NOW)) == 2


def test_a_ticket_that_never_comes_back_is_given_up() -> None:
    picker = a_picker("a")
    pick(picker)
    kept = pick(picker, now=NOW + 3)
    assert picker.expire(NOW + TICKET_SECONDS_MAX + 1) == 1
    ends(picker, kept, NOW + 8, ended=False)
    assert picker.expire(NOW + 3 + TICKET_SECONDS_MAX + 1) == 0
    assert picker.deployments["d"].replicas["a"].open == 1


def test_a_deployment_that_is_not_told_is_left_to_the_gateway() -> None:
    assert a_picker("a").pick(Facts("other"), NOW) is None


def test_a_stream_goes_on_at_a_replica_that_it_was_not_lost_with() -> None:
    picker = a_picker("a", "b", "c")
    home = pick(picker, REQUEST)  # and there the prompt is cached, so it would go back
    ends(picker, home)
    assert pick(picker, REQUEST).host == home.host
    lost = REQUEST._replace(avoided=(("", home.host),))
    again = pick(picker, lost)
    assert home.host not in {again.host, *(one.split(":")[0] for one in again.addresses)}
    third = pick(picker, REQUEST._replace(avoided=(("", home.host), ("", again.host))))
    assert {home.host, again.host, third.host} == {"a", "b", "c"}


@pytest.mark.parametrize("policy", list(RoutingPolicy))
def test_no_policy_sends_a_stream_back_to_where_it_was_lost(policy: RoutingPolicy) -> None:
    picker = a_picker("a", "b", policy=policy)
    for number in range(8):
        facts = REQUEST._replace(session=number, avoided=(("", "a"),))
        assert pick(picker, facts).host == "b"


def test_a_stream_goes_back_to_its_replica_only_where_there_is_no_other() -> None:
    picker = a_picker("a", "b")
    everybody = REQUEST._replace(avoided=(("", "a"), ("", "b")))
    assert pick(picker, everybody).host in ("a", "b")
    alone = a_picker("a", peers=1)
    lost = REQUEST._replace(avoided=(("", "a"),))
    assert pick(alone, lost).host == "a"  # the peer is not known to be well
    alone.look({"d": {"a": Seen(True, 0), "p1": Seen(True, 0)}}, NOW)
    assert pick(alone, lost).host == "p1"
    assert pick(alone, lost._replace(forwarded=True)).host == "a"


def test_a_peer_that_lost_a_stream_gets_it_again_only_while_it_has_another_replica() -> None:
    picker = a_picker(peers=2)
    picker.look({"d": {"p1": Seen(True, 0), "p2": Seen(True, 0)}}, NOW)
    lost = REQUEST._replace(avoided=(("p1", "x"),))
    for ready, wanted in ((1, "p2"), (2, "p1")):
        picker.peer_loads("p1", {"d": PeerLoad(in_flight_min=0, ready=ready)})
        picker.peer_loads("p2", {"d": PeerLoad(in_flight_min=0, ready=1)})
        assert pick(picker, lost).host == wanted
    gateway = REQUEST._replace(avoided=(("", "p1"),))
    assert pick(picker, gateway).host == "p2"


def test_a_stream_that_waits_for_a_full_replica_leaves_for_one_it_was_not_lost_with() -> None:
    picker = a_picker("a", "b", queue_requests_max=9, hold_seconds=9.0, concurrent_requests=1)
    while not (choice := pick(picker)).held:
        pass
    assert choice.addresses == ()
    held = pick(picker, REQUEST._replace(avoided=(("", "a"),)))
    assert (held.held, held.addresses) == (True, ("b:1",))


def test_requests_of_users_and_of_peers_are_counted_apart_and_each_once() -> None:
    picker = a_picker("a", ttft_seconds=1.0)
    mine = pick(picker, REQUEST)
    ends(picker, mine, first_byte_ms=400, duration_ms=4_000)
    pick(picker, Facts("d", tokens=100.0, forwarded=True))
    pick(picker, REQUEST)
    counters = picker.deployments["d"].counters(3, NOW)
    # The second of the same prompts is in the replica's cache already.
    assert (counters.users.requests, counters.users.prompt_tokens) == (2, 20 * 512.0)
    assert (counters.forwarded.requests, counters.forwarded.prompt_tokens) == (1, 100.0)
    assert (counters.users.open, counters.forwarded.open) == (1, 1)
    assert (counters.here, counters.waiting) == (2, 3)
    assert counters.answers == Answers(finished=1, judged=1, good=1)


def test_answers_are_judged_by_their_first_byte_and_failures_are_misses() -> None:
    picker = a_picker("a", ttft_seconds=1.0)
    prompt = Facts("d", tokens=4_000.0)  # a second more for its length
    for first, duration in ((1_900, 9_000), (2_100, 9_000), (500, 510)):
        ends(picker, pick(picker, prompt), first_byte_ms=first, duration_ms=duration)
    ends(picker, pick(picker), status=503, first_byte_ms=None)
    ends(picker, pick(picker), status=400, first_byte_ms=5, duration_ms=6)
    ends(picker, pick(picker), status=0, first_byte_ms=None)  # whoever asked went away
    answers = picker.deployments["d"].answers
    assert answers == Answers(finished=3, judged=2, good=1, failed=1)
    within = zip((*FIRST_BYTE_SECONDS, None), picker.deployments["d"].first_bytes, strict=True)
    assert [(bound, count) for bound, count in within if count] == [(2.5, 2)]


def test_what_a_peer_answered_is_the_peers_to_judge() -> None:
    picker = a_picker(peers=1, ttft_seconds=1.0)
    picker.peer_loads("p1", {"d": PeerLoad(0, 1)})
    ends(picker, pick(picker, PLAIN), first_byte_ms=400, duration_ms=4_000)
    assert picker.deployments["d"].answers == Answers()


def test_counters_come_through_the_socket_as_they_are() -> None:
    picker = a_picker("a")
    pick(picker, REQUEST)
    told = Counters(run=7, deployments={"d": picker.deployments["d"].counters(1, NOW)})
    assert parse_counters(render_counters(told)) == told


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "run": 1, "deployments": {"d": {}}}']
)
def test_anything_else_is_no_answer_of_a_picker(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse_counters(data)
