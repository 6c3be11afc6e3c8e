"""A request that waited counts where the gateway took it, as one that was steered does."""

from tests.unit.workload_plane.picker.test_picker import NOW, PROMPT, REQUEST, a_picker, pick
from workload_plane.picker.accounting import find_lines
from workload_plane.picker.facts import Choice, Entry
from workload_plane.picker.hosts import Replica
from workload_plane.picker.picker import Picker

TOKENS = 20 * 512.0


def a_full_one() -> tuple[Picker, Choice]:
    """Return a picker of two replicas, one place each beyond what is under way, and who waits."""
    picker = a_picker("a", "b", concurrent_requests=1, queue_requests_max=9, hold_seconds=9.0)
    for host in picker.deployments["d"].replicas.values():
        host.untracked = 3
    choice = pick(picker, REQUEST)
    assert choice.held
    assert picker.enter_room(choice.ticket, 1, NOW) == NOW
    replicas(picker)[0].untracked = 1
    picker.place(choice.ticket, NOW)
    return picker, choice


def replicas(picker: Picker) -> list[Replica]:
    return list(picker.deployments["d"].replicas.values())


def begins(picker: Picker, choice: Choice, address: str) -> None:
    line = f"<{choice.ticket}|{address}|0|-|-|-|10|0|2|UpstreamPoolReady|-|->"
    (entry,) = find_lines(line.encode())
    picker.note(entry, NOW)


def held_there(picker: Picker) -> list[int]:
    cached = picker.deployments["d"].cached(REQUEST, replicas(picker))
    return [int(cached.get(host.index, 0.0)) for host in replicas(picker)]


def test_its_prompt_is_counted_where_it_most_likely_goes_and_then_where_it_went() -> None:
    picker, choice = a_full_one()
    a, b = replicas(picker)
    assert (a.pending.tokens(NOW), b.pending.tokens(NOW), held_there(picker)) == (TOKENS, 0, [0, 0])
    begins(picker, choice, "b:1")
    assert (a.open, b.open) == (0, 1)
    assert (a.pending.tokens(NOW), b.pending.tokens(NOW)) == (0, TOKENS)
    assert held_there(picker) == [0, TOKENS]


def test_a_guess_that_was_right_is_learned_too_and_suspects_nobody() -> None:
    picker, choice = a_full_one()
    begins(picker, choice, "a:1")
    a, b = replicas(picker)
    assert (a.open, a.pending.tokens(NOW), held_there(picker)) == (1, TOKENS, [TOKENS, 0])
    assert [host.suspect_until for host in (a, b)] == [0.0, 0.0]


def test_what_the_host_has_of_the_prompt_is_not_read_again() -> None:
    picker, choice = a_full_one()
    _, b = replicas(picker)
    picker.deployments["d"].tree.learn(b.index, PROMPT[:10])
    begins(picker, choice, "b:1")
    assert b.pending.tokens(NOW) == TOKENS / 2


def test_its_first_byte_frees_the_prompt_and_its_end_the_place() -> None:
    picker, choice = a_full_one()
    begins(picker, choice, "b:1")
    _, b = replicas(picker)
    entry = Entry(choice.ticket, "b:1", 200, "", 9_000, 9_100, 10, 10, 2, False)
    picker.note(entry, NOW)
    assert (b.open, b.pending.tokens(NOW)) == (1, 0)
    picker.note(entry._replace(ended=True), NOW)
    assert (b.open, picker.open_tickets) == (0, 0)


def test_a_request_that_was_tried_again_elsewhere_counts_there() -> None:
    picker = a_picker("a", "b")
    choice = pick(picker, REQUEST)
    other = next(host for host in replicas(picker) if host.name != choice.host)
    begins(picker, choice, other.http)
    assert (other.open, other.pending.tokens(NOW)) == (1, TOKENS)
    first = next(host for host in replicas(picker) if host.name == choice.host)
    assert (first.open, first.pending.tokens(NOW), first.suspect_until > NOW) == (0, 0, True)
