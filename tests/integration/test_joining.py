"""A plane that joins by invitation: a real control plane, the command, and a real agent."""

import asyncio
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from skerry.cli.main import run
from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME, DataDirectory
from skerry.cli.supervisor.parts import start_part
from skerry.cli.supervisor.preparation import prepare
from skerry.cli.supervisor.restarts import control_plane_key
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.enrolment import certificate_times, identity_files
from skerry.client.joining import NewPlaneInvite
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import terminate
from tests.integration.agent_world import PLANE, WAIT_SECONDS, AgentWorld

pytestmark = pytest.mark.integration
CLOCK = SystemClock()
# As short as a control plane issues them: renewed after five seconds.
LIFE_SECONDS = 10.0


async def an_invite(client: AsyncOperatorClient) -> NewPlaneInvite:
    """Invite the plane as soon as the control plane answers."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                return await client.create_plane_invite(PLANE, CLOCK.now() + timedelta(hours=1))
            except SkerryError:
                await CLOCK.sleep(0.1)


async def test_a_plane_joins_renews_on_its_stream_and_is_put_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = DataDirectory(tmp_path / "fleet")
    layout = prepare(directory, 1, "simulated", CLOCK.now(), os.environ)
    path = directory.control_plane / "settings.json"
    settings = json.loads(path.read_bytes())
    settings["joining"]["certificate_seconds"] = LIFE_SECONDS
    path.write_text(json.dumps(settings))
    control_plane = start_part(directory, control_plane_key(CONTROL_PLANE_NAME))
    assert control_plane is not None
    world = AgentWorld(tmp_path)
    files = identity_files(world.data_dir)
    try:
        async with AsyncOperatorClient(
            fleet_context(directory, layout), SystemIds(CLOCK), "user:test"
        ) as client:
            made = await an_invite(client)
            token = tmp_path / "join.token"
            token.write_text(made.token)
            where = ("--control-plane", made.join_address, "--data-dir", str(world.data_dir))
            command = ["plane", "join", "--token-file", str(token), *where]
            capfd.readouterr()
            assert await asyncio.to_thread(run, command) == 0
            section = json.loads("{" + capfd.readouterr().out.partition("{")[2])
            link = [layout.control_planes[0].link_address]
            world.configure(control_planes=link, **section)
            world.start_agent()
            await world.until(lambda: world.status().get("link", {}).get("state") == "linked")
            # The certificate that the stream was opened with ends, and the stream does not.
            first = certificate_times(files.cert).ends_at
            await world.until(lambda: CLOCK.now() > first)
            assert certificate_times(files.cert).ends_at > first
            assert world.log.count("link.up") == 1
            assert "link.lost" not in world.log
            (row,) = await client.list_plane_identities()
            assert (row.plane, row.revoked_at) == (PLANE, None)
            await client.revoke_plane(PLANE)
            await world.until(lambda: "was revoked" in world.status()["link"]["last_error"])
            kinds = [change.kind for change in await client.latest_changes()]
            wanted = {"plane.invited", "plane.joined", "plane.revoked"}
            assert wanted <= set(kinds)
            assert made.token[:60] not in world.log
    finally:
        await world.close()
        await terminate(control_plane, CLOCK, 10.0)
