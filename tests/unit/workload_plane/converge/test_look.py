"""A look is the whole truth, also while something of it cannot be written down."""

import errno

import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.errors import Unavailable
from tests.fakes.clock import FakeClock
from tests.fakes.replica_runtime import FakeReplicaRuntime
from workload_plane.converge.condition import HUNG_SECONDS_MAX, Condition, classify
from workload_plane.converge.discover import GatewayView, Memory, look
from workload_plane.replicas.port import ReplicaOrder
from workload_plane.replicas.records import ReplicaRecord


class Probe:
    """Every replica is healthy and idle."""

    async def is_healthy(self, record: ReplicaRecord) -> bool:
        return True

    async def in_flight(self, record: ReplicaRecord) -> int | None:
        return 0


class StoppedProbe(Probe):
    """The agent is stopped while it asks; when it goes on, its patience is over."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    async def is_healthy(self, record: ReplicaRecord) -> bool:
        self._clock.advance(2 * HUNG_SECONDS_MAX)
        return False


def _order(name: str) -> ReplicaOrder:
    return ReplicaOrder(
        name=name,
        deployment="demo",
        revision=1,
        pool="here--cpu",
        served_name="demo",
        engine=EngineSpec(name=EngineName.SIMULATED),
    )


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "no space left on device"), Unavailable("its node is silent")]
)
async def test_a_state_that_is_not_taken_down_stops_no_look(fault: Exception) -> None:
    runtime, memory, clock = FakeReplicaRuntime(), Memory(), FakeClock()
    for name in ("demo-r1-aaaaaa", "demo-r1-bbbbbb"):
        await runtime.start(_order(name))
        memory.starting(name, 0.0)

    async def mark(*arguments: object, **rest: object) -> None:
        raise fault

    kept, runtime.mark = runtime.mark, mark  # type: ignore[method-assign]
    seen = await look(runtime, Probe(), GatewayView(), memory, (), clock)
    assert [one.state for one in seen.observed.replicas] == [ReplicaState.READY] * 2
    assert [one.record.state for one in seen.live] == [ReplicaState.READY] * 2
    runtime.mark = kept  # type: ignore[method-assign]
    clock.advance(1.0)
    seen = await look(runtime, Probe(), GatewayView(), memory, (), clock)
    assert {one.state for one in runtime.records.values()} == {ReplicaState.READY}
    assert [one.state for one in seen.observed.replicas] == [ReplicaState.READY] * 2


async def test_an_agent_that_was_stopped_while_it_asked_ends_nobody() -> None:
    runtime, memory, clock = FakeReplicaRuntime(), Memory(), FakeClock()
    await runtime.start(_order("demo-r1-aaaaaa"))
    memory.starting("demo-r1-aaaaaa", clock.monotonic())
    await look(runtime, Probe(), GatewayView(), memory, (), clock)
    seen = await look(runtime, StoppedProbe(clock), GatewayView(), memory, (), clock)
    (replica,) = seen.observed.replicas
    assert replica.unhealthy_since is not None, "it did not answer"
    assert classify(replica, clock.monotonic()) is Condition.LIVE
