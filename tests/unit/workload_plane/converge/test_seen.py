"""Backoff between starts, and what is remembered of replicas between looks."""

from skerry.fleet.observation import ReplicaState
from workload_plane.converge.discover import Memory
from workload_plane.converge.memory import (
    UNWATCHED_SECONDS,
    after_look,
    first_sight,
    next_state,
)
from workload_plane.converge.seen import SOUND_SECONDS, StartBackoff, after_failure
from workload_plane.replica_host.restarts import WINDOW_SECONDS

FRESH = StartBackoff(deployment="demo", revision=1)


def test_failures_in_a_row_double_the_pause_up_to_half_a_minute() -> None:
    backoff, pauses = FRESH, []
    for _ in range(9):
        backoff = after_failure(backoff, None, 100.0)
        pauses.append(backoff.retry_at - 100.0)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_replica_that_served_longer_than_its_hosts_window_is_replaced_at_once() -> None:
    failing = StartBackoff(deployment="demo", revision=1, failures=5, retry_at=90.0)
    after = after_failure(failing, SOUND_SECONDS + 1, 100.0)
    assert (after.failures, after.retry_at) == (0, 100.0)
    assert after_failure(failing, 9.0, 100.0).failures == 6
    assert after_failure(failing, 15.0, 100.0).failures == 6
    assert SOUND_SECONDS > WINDOW_SECONDS  # a host gives up within it, of an engine that served


def test_the_first_end_of_one_that_served_waits_for_nothing_and_the_next_do() -> None:
    first = after_failure(FRESH, 15.0, 100.0)
    assert (first.failures, first.retry_at) == (1, 100.0)
    assert after_failure(first, 15.0, 100.5) == first  # a node took several with it
    second = after_failure(first, 15.0, 120.0)
    assert (second.failures, second.retry_at) == (2, 121.0)


def test_what_its_host_gave_up_has_failed_however_long_ago_it_became_ready() -> None:
    failing = StartBackoff(deployment="demo", revision=1, failures=5, retry_at=90.0)
    after = after_failure(failing, SOUND_SECONDS + 1, 100.0, given_up=True)
    assert (after.failures, after.retry_at) == (6, 116.0)


def test_an_engine_that_dies_after_a_while_of_service_is_tried_ever_more_slowly() -> None:
    memory, pauses = Memory(), []
    for number in range(4):
        name = f"demo-r1-{number}"
        memory.replicas[name] = first_sight(ReplicaState.READY, 0.0)
        memory.seen_alive.add(name)
        memory.given_up.add(name)
        memory.failed("demo", 1, name, 10_000.0)
        pauses.append(memory.backoffs["demo", 1].retry_at - 10_000.0)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_silence_is_counted_from_the_first_unanswered_look_and_only_once_ready() -> None:
    starting = first_sight(ReplicaState.STARTING, 1.0)
    assert after_look(starting, ReplicaState.STARTING, False, 2.0).unhealthy_since is None
    ready = after_look(starting, ReplicaState.READY, True, 3.0)
    silent = after_look(ready, ReplicaState.READY, False, 4.0)
    assert (silent.ready_at, silent.unhealthy_since) == (3.0, 4.0)
    assert after_look(silent, ReplicaState.READY, False, 5.0).unhealthy_since == 4.0
    assert after_look(silent, ReplicaState.READY, True, 6.0).unhealthy_since is None
    assert after_look(silent, ReplicaState.READY, None, 6.0) == silent


def test_an_own_pause_is_nobodys_silence() -> None:
    ready = after_look(first_sight(ReplicaState.STARTING, 1.0), ReplicaState.READY, True, 3.0)
    stopped = after_look(ready, ReplicaState.READY, False, 60.0)
    assert stopped.unhealthy_since == 60.0, "not since it was asked, before the pause"
    again = after_look(stopped, ReplicaState.READY, False, 70.0)
    assert again.unhealthy_since == 60.0 + 10.0 - UNWATCHED_SECONDS
    assert after_look(again, ReplicaState.READY, False, 71.0).unhealthy_since == 67.0


def test_an_adopted_replica_that_is_silent_counts_as_having_been_ready() -> None:
    adopted = first_sight(ReplicaState.READY, 1.0)
    assert after_look(adopted, ReplicaState.READY, False, 2.0).unhealthy_since == 2.0


def test_a_drain_is_counted_from_its_first_sight() -> None:
    memory = first_sight(ReplicaState.READY, 1.0)
    draining = after_look(memory, ReplicaState.DRAINING, True, 5.0)
    assert draining.draining_since == 5.0
    assert after_look(draining, ReplicaState.DRAINING, True, 9.0).draining_since == 5.0


def test_only_a_starting_replica_becomes_ready_by_answering() -> None:
    assert next_state(ReplicaState.STARTING, True) is ReplicaState.READY
    assert next_state(ReplicaState.STARTING, None) is ReplicaState.STARTING
    assert next_state(ReplicaState.DRAINING, True) is ReplicaState.DRAINING
    assert next_state(ReplicaState.FAILED, True) is ReplicaState.FAILED
