"""A hung engine gets nothing new after 2 s, and what waits on it is freed within 10 s: the sums."""

from workload_plane.converge.condition import HUNG_SECONDS_MAX
from workload_plane.converge.loop import TICK_SECONDS
from workload_plane.gateway.clusters import _HEALTH_INTERVAL_SECONDS
from workload_plane.picker.health import POLL_SECONDS
from workload_plane.replica_host import engine_keeper
from workload_plane.replica_host.engine_client import PROBE_SECONDS_MAX
from workload_plane.replica_host.host import _PROBE_AGAIN_SECONDS, PROBE_PAUSE_SECONDS

# The engine falls silent right after it answered; two probes must stay without an answer.
NOTICED = PROBE_PAUSE_SECONDS + PROBE_SECONDS_MAX + _PROBE_AGAIN_SECONDS + PROBE_SECONDS_MAX


def test_a_hung_engine_gets_nothing_new_after_two_seconds() -> None:
    # The picker chooses by what the gateway knew when it last looked.
    assert round(NOTICED + _HEALTH_INTERVAL_SECONDS + POLL_SECONDS, 6) <= 2.0


def test_what_waits_on_a_hung_engine_is_freed_within_ten_seconds() -> None:
    assert NOTICED + TICK_SECONDS + HUNG_SECONDS_MAX + TICK_SECONDS <= 10.0


def test_with_the_agent_dead_the_host_frees_it_in_time_and_never_before_the_agent() -> None:
    agent = TICK_SECONDS + HUNG_SECONDS_MAX + TICK_SECONDS
    host = engine_keeper.HUNG_SECONDS_MAX
    assert agent < host
    assert NOTICED + host + 2 * engine_keeper._HUNG_LOOK_SECONDS <= 10.0
