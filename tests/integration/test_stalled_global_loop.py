"""A control plane that answers heartbeats and decides nothing: planes go by their own signals.

First the reconcile loop over a real store, in virtual time; then real processes. The control
plane's can read its table of targets no more, as after a bad migration.
"""

import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from control_plane.link.freshness import LATE_SECONDS, PERIODS_MAX, are_current
from control_plane.store import catalogue, deployments, pools
from control_plane.store.catalogue import PROFILES
from control_plane.store.engine import Database, open_database
from control_plane.store.fencing import WriteContext
from control_plane.store.leadership import current_leadership
from skerry.fleet.deployment import Deployment, PlacementPolicy, Scaling
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.ports import fixed_port
from tests.builders import a_profile
from tests.integration.agent_world import HOST, POOL, WAIT_SECONDS, AgentWorld, a_deployment
from tests.integration.loop_world import Fleet
from tests.integration.open_loop import OpenLoop
from tests.integration.test_global_loop import LOUD, Loaded, scaling

CEILING = 4
PERIOD_SECONDS = 1.0
# Of four slots each; an answer of fifty tokens takes a second.
OPTIONS = {"tpot-seconds": "0.02", "tpot-seconds-per-request": "0", "jitter": "0"}
SPEEDS = {1: 50.0, 4: 200.0}
UP_SECONDS_MAX = 60.0
HIDE = "alter table scalings rename to scalings_away"
SHOW = "alter table scalings_away rename to scalings"


def is_current(world: Loaded) -> bool:
    """Say whether planes are told that their targets are current."""
    fleet = world.fleet
    period_seconds = fleet.policy.scaling_period_seconds
    return are_current(fleet.registry.targets_at, fleet.clock.monotonic(), period_seconds)


@pytest.mark.integration
async def test_targets_are_current_while_rounds_end_and_not_once_none_does(tmp_path: Path) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling())
    assert not is_current(world), "nothing was decided yet"
    world.rates = {"fra": LOUD}
    await world.seconds(120)
    assert is_current(world)
    period_seconds = world.fleet.policy.scaling_period_seconds

    def fail(*_: object) -> None:
        raise RuntimeError("a formula that nobody foresaw")

    rounds = world.fleet.loop._autoscaler
    assert rounds is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds._rounds, "decide", fail)
        await world.seconds(int(period_seconds))
        assert is_current(world), "one round that fails is none"
        await world.seconds(int(PERIODS_MAX * period_seconds + LATE_SECONDS))
        assert not is_current(world)
    await world.seconds(int(period_seconds) + 1)
    assert is_current(world)


@pytest.mark.integration
async def test_the_next_leader_s_targets_are_current_once_it_has_decided_itself(
    tmp_path: Path,
) -> None:
    world = Loaded(Fleet(tmp_path))
    await world.begin(scaling())
    await world.seconds(60)
    assert is_current(world)
    world.fleet.loop.lead(world.fleet.epoch)
    assert not is_current(world)
    await world.seconds(2)
    assert is_current(world)


class Led:
    """A plane's real agent under a real control plane whose global loop decides every second."""

    def __init__(self, directory: Path) -> None:
        self.world = AgentWorld(directory)
        self.world.configure(autoscale={"period_seconds": 1.0})
        self._file = directory / "skerry.db"
        self.database: Database | None = None

    async def start(self) -> None:
        """Start the control plane, then the agent, and wait until it is linked."""
        world, tls = self.world, self.world._server_tls
        told = {
            "name": "cp",
            "database_url": f"sqlite:///{self._file}",
            "operator_address": f"{HOST}:{fixed_port(HOST)}",
            "http_address": f"{HOST}:{fixed_port(HOST)}",
            "link_address": world.link_address,
            "tls": {"ca": str(tls.ca), "certificate": str(tls.cert), "key": str(tls.key)},
            "autoscale": {"period_seconds": PERIOD_SECONDS},
        }
        settings = self._file.with_name("control-plane.json")
        settings.write_text(json.dumps(told))
        self.world.run_with(settings, "control_plane.main")
        world.start_agent()
        await world.until(lambda: world.status().get("link", {}).get("state") == "linked")

    async def apply(self, deployment: Deployment) -> None:
        """Price the pool, keep a profile of the deployment and apply it, as its operator."""
        database = self.database = open_database(f"sqlite:///{self._file}")
        leader = await database.run_read(current_leadership)
        assert leader is not None
        write = WriteContext(epoch=leader.epoch, actor="user:test", now=self.world.clock.now())
        profile = replace(a_profile(SPEEDS, deployment), output_tokens=50)
        terms = PoolTerms(price_per_accelerator_hour=0.1)
        await database.run(pools.set_terms, write, POOL, terms, "", "")
        await database.run(catalogue.create_entry, write, PROFILES, profile, "")
        await database.run(deployments.apply_deployment, write, deployment, "", "")

    def alter(self, statement: str) -> None:
        """Change the control plane's database behind its back."""
        with sqlite3.connect(self._file, timeout=WAIT_SECONDS) as connection:
            connection.execute(statement)
        connection.close()

    @property
    def has_targets(self) -> bool:
        """Say whether the plane goes by the control plane's targets."""
        return bool(self.world.status()["link"]["has_targets"])

    @property
    def is_linked(self) -> bool:
        """Say whether the link is up."""
        return bool(self.world.status()["link"]["state"] == "linked")


@pytest.fixture
async def led(tmp_path: Path) -> AsyncIterator[Led]:
    """A plane that is linked."""
    led = Led(tmp_path)
    try:
        await led.start()
        yield led
    finally:
        await led.world.close()
        if led.database is not None:
            led.database.close()


@pytest.mark.slow
async def test_a_plane_goes_by_its_own_loop_while_the_global_one_is_stuck_and_the_link_is_up(
    led: Led,
) -> None:
    world = led.world
    demo = replace(
        a_deployment(options=OPTIONS),
        scaling=Scaling(min_replicas=1, max_replicas=CEILING, scale_down_delay_seconds=8.0),
        policy=PlacementPolicy(),
    )
    demo = replace(
        demo,
        revision=replace(
            demo.revision, engine=replace(demo.revision.engine, concurrent_requests=4)
        ),
    )
    await led.apply(demo)
    picker = world.data_dir / "picker.json"
    await world.until(lambda: picker.is_file() and "demo" in picker.read_text())
    world.run("workload_plane.picker.main")
    world.start_gateway()
    await world.ready(1)
    await world.until(lambda: led.has_targets)
    async with aiohttp.ClientSession() as session:
        await world.until_served(session)
        led.alter(HIDE)
        await world.until(lambda: not led.has_targets)
        assert led.is_linked, "heartbeats go on"
        load = OpenLoop(world.public, "demo", session, world.clock)
        await load.send(12.0, lambda: len(world.replicas("ready")) == CEILING, UP_SECONDS_MAX)
        assert led.is_linked
        assert not led.has_targets
        assert load.failed == []
        led.alter(SHOW)
        await world.until(lambda: led.has_targets)
