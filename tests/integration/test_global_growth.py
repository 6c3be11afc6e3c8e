"""Two live planes under one global loop: load at one of them grows there, then at the other.

A fleet of `skerry up` with simulated engines, and what `skerry explain scaling` says of it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from skerry.cli.down import stop_directory
from skerry.cli.scaling import print_scaling
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.preparation import Choices
from skerry.cli.supervisor.readiness import until_ready
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import start_fleet
from skerry.client.catalogue_calls import PROFILES
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from tests.builders import a_profile
from tests.integration.open_loop import OpenLoop
from tests.integration.test_autoscaled_fleet import a_deployment, until
from workload_plane.replicas.records import read_records

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
ACCELERATORS = 4  # of a plane of `skerry up`, one for a replica
# An answer of 50 tokens takes a second, and a replica makes four at once: by the profile below 14 a
# second keep three and a half replicas busy, which are five at 70 %.
RATE = 14.0
SECONDS_MAX = 90.0


@dataclass(slots=True)
class Pair:
    """Two planes; `near` has the first replica."""

    directory: DataDirectory
    layout: Layout
    operator: AsyncOperatorClient
    session: aiohttp.ClientSession

    def ready(self, plane: str) -> int:
        """Return how many replicas of a plane are READY."""
        records = read_records(self.directory.plane(plane) / "replicas")
        return sum(one.state is ReplicaState.READY for one in records)

    async def split(self) -> tuple[str, str]:
        """Return the plane that has a replica and the one that has none, once there is one."""
        names = [plane.name for plane in self.layout.planes]
        await until(lambda: sum(map(self.ready, names)) == 1)
        near = next(name for name in names if self.ready(name))
        return near, next(name for name in names if name != near)

    def load(self, plane: str) -> OpenLoop:
        """Return a load at a plane's gateway."""
        (port,) = (one.ports.public for one in self.layout.planes if one.name == plane)
        return OpenLoop(f"127.0.0.1:{port}", "demo", self.session, CLOCK)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two planes that know what `demo` costs, and run one replica of it."""
    directory = DataDirectory(tmp_path)
    layout, supervisor = await start_fleet(
        directory, 2, "simulated", restart_control_plane=False, choices=Choices(keys=False)
    )
    context = fleet_context(directory, layout)
    try:
        async with (
            AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator,
            aiohttp.ClientSession() as session,
        ):
            async for _ in until_ready(directory, layout, supervisor, operator, CLOCK):
                pass
            demo = a_deployment()
            demo = replace(demo, scaling=replace(demo.scaling, max_replicas=6))
            measured = a_profile({1: 50.0, 4: 200.0}, demo)
            await operator.set_entry(PROFILES, replace(measured, prompt_tokens=1, output_tokens=50))
            await operator.apply(demo)
            yield Pair(directory, layout, operator, session)
    finally:
        await stop_directory(directory, CLOCK)


async def test_load_at_one_plane_grows_there_to_its_ceiling_and_then_at_the_next(
    pair: Pair,
) -> None:
    near, far = await pair.split()
    load = pair.load(near)
    async with asyncio.timeout(SECONDS_MAX):
        await load.send(
            RATE,
            lambda: pair.ready(near) == ACCELERATORS and pair.ready(far) >= 1,
            SECONDS_MAX,
        )
    found = await pair.operator.explain_scaling("demo", 120)
    grown = 0
    for decision in found.decisions:
        shares = {share.plane: share for share in decision.shares}
        if far in shares and (shares[far].target or 0) > shares[far].floor:
            assert shares[near].target == shares[near].ceiling == ACCELERATORS
            grown += 1
    assert grown
    own = {row.plane: [one.target for one in row.decisions] for row in found.planes}
    # The oldest may be of before its first envelope.
    assert own[near][0] == ACCELERATORS > 1 >= own[near][-1], "its own loop's, the newest first"
    shown = StringIO()
    print_scaling(Console(file=shown, width=200), found)
    text = shown.getvalue()
    assert f"{near} {ACCELERATORS}, {far} " in text
    assert "replicas busy" in text
