"""The global loop in a control plane: loads that planes report raise targets, silence lowers none.

First the reconcile loop and planes that do as they are told, through hours of virtual time; then
loads over a real link.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from control_plane.autoscale.shares import Loads
from control_plane.store import catalogue, deployments
from control_plane.store.catalogue import PROFILES
from control_plane.store.changes import list_changes
from control_plane.store.rollouts import list_rollouts
from control_plane.store.scalings import list_scaling_records, list_scalings
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport
from skerry.fleet.deployment import Deployment, PlacementPolicy, Scaling
from skerry.fleet.desired import FEATURES, TAKES_LOADS, Assignment
from skerry.fleet.rollout import Stage
from skerry.wire.scaling import loads_to_proto
from tests.builders import a_deployment, a_profile
from tests.integration.loop_world import Fleet
from tests.integration.test_plane_link import a_bench, hello

pytestmark = pytest.mark.integration

TELL_SECONDS = 10
# By the profile below a request of 1,000 and 200 tokens keeps a replica busy for about a second.
LOUD, QUIET = 4.0, 0.01


def scaling(least: int = 1, most: int = 9, **factors: Any) -> Deployment:
    """`demo` between so many replicas, its costs as `MEASURED` tells them."""
    told = replace(Scaling(min_replicas=least, max_replicas=most), **factors)
    return a_deployment(scaling=told, policy=PlacementPolicy())


MEASURED = replace(
    a_profile({1: 220.0, 4: 250.0}, scaling()), prompt_tokens=1000, output_tokens=200
)


@dataclass(slots=True)
class Loaded:
    """A fleet with a profile of `demo`, and how many requests a second come in at each plane."""

    fleet: Fleet
    rates: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)
    mute: bool = False

    async def begin(self, deployment: Deployment) -> None:
        """Price the pools, keep the profile and apply."""
        self.fleet.features = FEATURES
        await self.fleet.price()
        run, write = self.fleet.database.run, self.fleet.write()
        await run(catalogue.create_entry, write, PROFILES, MEASURED, "")
        await run(deployments.apply_deployment, write, deployment, "", "")

    async def seconds(self, count: int) -> None:
        """Let time pass; planes tell their loads every ten seconds."""
        for second in range(count):
            for plane in self.fleet.alive:
                rate = self.rates.get(plane, 0.0)
                self.requests[plane] = self.requests.get(plane, 0.0) + rate
            if second % TELL_SECONDS == 0 and not self.mute:
                for plane in sorted(self.fleet.alive):
                    if self.fleet.registry.view(plane).connected:
                        self.tell(plane)
            await self.fleet.turns(1)

    def tell(self, plane: str) -> None:
        """Report what a plane counted, as the link does."""
        done, now = self.requests[plane], self.fleet.clock.monotonic()
        reading = LoadReading(
            at=now,
            requests_total=done,
            prompt_tokens_total=done * 1000.0,
            finished_total=done,
            output_tokens_total=done * 200.0,
            in_flight=self.rates.get(plane, 0.0),
        )
        load = DeploymentLoad(deployment="demo", reading=reading)
        self.fleet.registry.take_loads(plane, LoadReport(loads=(load,)))

    def targets(self) -> dict[str, int]:
        """What planes were told of `demo`, by plane, without those that are to run none."""
        found: dict[str, int] = {}
        for plane, one in self.assignments():
            found[plane] = sum(envelope.target for envelope in one.envelopes)
        return {plane: count for plane, count in found.items() if count}

    def assignments(self) -> Iterable[tuple[str, Assignment]]:
        """What planes were told of `demo`."""
        for plane, (_, state) in self.fleet.pushed.items():
            for one in state.assignments:
                if one.deployment.name == "demo" and one.envelopes:
                    yield plane, one

    async def scaled(self) -> Scaled:
        """What holds of `demo`."""
        (found,) = await self.fleet.database.run_read(list_scalings)
        return found


async def test_load_raises_the_target_and_more_places_where_one_pool_is_full(
    tmp_path: Path,
) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling())
    world.rates = {"fra": QUIET}
    await world.seconds(60)
    assert world.targets() == {"fra": 1}, "the cheapest"
    world.rates = {"fra": LOUD}
    await world.seconds(180)
    targets = world.targets()
    assert sum(targets.values()) >= 5
    assert targets["fra"] == 4, "all that it has"
    assert set(targets) == {"fra", "gcp"}, "then the next cheapest"
    assert all(one.scaling is not None for _, one in world.assignments())
    records = await world.fleet.database.run_read(list_scaling_records, "demo")
    assert len(records) >= 7
    assert any(record.because == "need" for record in records)


async def test_silence_of_every_plane_lowers_nothing_in_an_hour(tmp_path: Path) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling())
    world.rates = {"fra": 2.0}
    await world.seconds(180)
    before, running = world.targets(), dict(world.fleet.running)
    assert sum(before.values()) > 1
    world.mute = True
    world.rates = {}
    for _ in range(60):
        world.fleet.clock.advance(59.0)
        await world.fleet.turns(1)
    assert world.targets() == before
    assert {p: len(r) for p, r in world.fleet.running.items()} == {
        p: len(r) for p, r in running.items()
    }


async def test_a_target_falls_once_less_was_enough_for_the_delay(tmp_path: Path) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling(most=4))
    world.rates = {"fra": 2.0}
    await world.seconds(180)
    high = sum(world.targets().values())
    world.rates = {"fra": QUIET}
    await world.seconds(240)
    assert sum(world.targets().values()) == high
    await world.seconds(240)
    assert sum(world.targets().values()) < high
    assert {a.ceiling for _, one in world.assignments() for a in one.envelopes} == {4}


async def test_the_next_leader_holds_what_was_decided(tmp_path: Path) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling())
    world.rates = {"fra": LOUD}
    await world.seconds(180)
    before = world.targets()
    world.fleet.start()
    world.rates = {"fra": 0.0}
    await world.seconds(200)
    assert world.targets() == before


async def test_what_may_run_none_runs_none_and_has_a_place_to_come_back_to(tmp_path: Path) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling(least=0, most=4))
    await world.seconds(60)
    (rollout,) = await world.fleet.database.run_read(list_rollouts)
    assert rollout.stage is Stage.COMPLETE, "it was tried by one replica"
    assert world.targets() == {}
    assert {p: sum(e.ceiling for e in one.envelopes) for p, one in world.assignments()} == {
        "fra": 4
    }
    world.rates = {"fra": 2.0}
    await world.seconds(90)
    assert world.targets()["fra"] >= 2


async def test_what_finds_no_accelerators_is_told_with_its_price(tmp_path: Path) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling(most=40))
    world.rates = dict.fromkeys(("aws", "fra", "gcp"), LOUD)
    await world.seconds(240)
    assert world.targets() == {"aws": 4, "fra": 4, "gcp": 4}
    scaled = await world.scaled()
    assert (scaled.demand, scaled.unmet) == (12, scaled.wanted - 12)
    assert scaled.unmet_dollars_per_hour == pytest.approx(scaled.unmet * 0.1)


async def test_figures_alone_write_records_and_no_changes(tmp_path: Path) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling(most=40))
    world.rates = dict.fromkeys(("aws", "fra", "gcp"), LOUD)
    await world.seconds(240)

    async def told() -> tuple[int, int, set[int]]:
        run = world.fleet.database.run_read
        changes = await run(list_changes, 0, 1_000)
        records = await run(list_scaling_records, "demo")
        moved = sum(one.kind == "scaling.moved" for one in changes)
        return moved, len(records), {one.unmet for one in records}

    before = await told()
    for louder in (1.1, 1.2, 1.3, 1.4):
        world.rates = dict.fromkeys(world.rates, LOUD * louder)
        await world.seconds(60)
    after = await told()
    assert after[0] == before[0], "all that there is has been asked for"
    assert after[1] >= before[1] + 4
    assert len(after[2]) > len(before[2]), "how much is unmet is told all the same"
    assert (await world.scaled()).unmet > 0


async def test_loads_come_over_the_link_and_stay_known_when_the_plane_goes(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            await stream.write(hello("fra"))
            welcome = await stream.read()
            assert TAKES_LOADS in welcome.welcome.features
            await stream.write(told_loads(10.0))
            await beat(stream, 1)
            first = reading_of(bench.registry.new_loads())
            assert bench.registry.new_loads() == {}, "each is taken once"
            await stream.write(told_loads(20.0))
            await beat(stream, 2)
            second = reading_of(bench.registry.new_loads())
            assert (first.requests_total, second.requests_total) == (10.0, 20.0)
            assert first.at < second.at <= bench.clock.monotonic(), (
                "when it was heard, by our clock"
            )
            stream.cancel()
        assert reading_of(bench.registry.loads()) == second, "silence is not nothing"


async def beat(stream: Any, number: int) -> None:
    """Wait until the control plane has taken all that was sent so far."""
    beat = messages.Heartbeat(number=number)
    await stream.write(messages.ConnectRequest(heartbeat=beat))
    while (await stream.read()).heartbeat.number != number:
        pass


def told_loads(requests: float) -> messages.ConnectRequest:
    """What a plane sends once so many requests came in."""
    reading = LoadReading(
        at=0.0,
        requests_total=requests,
        prompt_tokens_total=requests * 1000.0,
        finished_total=requests,
        output_tokens_total=requests * 200.0,
        in_flight=3.0,
    )
    load = DeploymentLoad(deployment="demo", reading=reading)
    return messages.ConnectRequest(loads=loads_to_proto(LoadReport(loads=(load,))))


def reading_of(loads: Loads) -> LoadReading:
    """Return what `fra` counted of `demo`."""
    load = loads["fra"].of("demo")
    assert load is not None
    assert load.reading is not None
    return load.reading
