"""A gateway that an older release started, and this one's files, with a real Envoy."""

import contextlib
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.integration.gateway_world import FakeEngine, World, a_model, a_world, eventually
from workload_plane.gateway import files
from workload_plane.gateway.fitting import fitted, has_log_cluster
from workload_plane.gateway.order import LISTENERS

pytestmark = pytest.mark.integration


async def runs_with_log(world: World) -> bool:
    status = await world.status("a")
    assert status is not None
    return has_log_cluster(status, False)


async def test_a_gateway_of_before_the_picker_serves_on_and_comes_back_at_any_moment(
    tmp_path: Path,
) -> None:
    async with a_world(tmp_path) as world:
        engine, plane = FakeEngine("a1"), world.planes["a"]
        world.engines["a1"] = engine
        await engine.start()
        sockets = tmp_path / "picker"
        wanted = replace(
            plane.topology,
            models=(a_model("1", engine),),
            picker_directory=str(sockets),
            picks=True,
        )

        async def serves() -> bool:
            with contextlib.suppress(aiohttp.ClientError):  # it does not listen yet
                return await world.chat("a") == (200, {"engine": "a1", "model": "m1"})
            return False

        async def start_again() -> None:
            await plane.kill()
            plane.start()

            async def is_up() -> bool:
                status = await world.status("a")
                return status is not None and status.live

            await eventually(is_up)

        # Whole, the files are refused: by the Envoy that runs, and by one that is started from
        # the same bootstrap, which then has no listener at all.
        plane.topology = wanted
        published = await plane.publish()

        async def is_refused() -> bool:
            status = await world.status("a")
            return status is not None and status.rejected.get(LISTENERS, 0) > 0

        await eventually(is_refused)
        assert published.bootstrap_proposed

        in_force = files.load_bootstrap(plane.folder)
        with_log = await runs_with_log(world)
        plane.topology = fitted(wanted, in_force, runs_with_log=with_log)
        assert not plane.topology.picks
        await world.settled("a", await plane.publish())
        await eventually(serves)
        await start_again()
        await eventually(serves)

        files.adopt_bootstrap(plane.folder)
        await start_again()
        await eventually(serves)
        assert await runs_with_log(world)
        plane.topology = fitted(wanted, files.load_bootstrap(plane.folder))
        assert plane.topology == wanted
        await world.settled("a", await plane.publish())
        await eventually(serves)
