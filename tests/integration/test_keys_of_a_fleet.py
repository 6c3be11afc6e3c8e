"""A fleet as `skerry up` makes it: closed, with a key for its owner, also when all else is dead."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from skerry.cli.down import stop_directory
from skerry.cli.session import Session
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.restarts import Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import start_fleet, wait_until_ready
from skerry.client.credentials import read_api_key
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.api_key import KeyTerms
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision, Scaling
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import signal_process, wait_until_gone

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
SECONDS_MAX = 60.0
DEMO = Deployment(
    name="demo",
    revision=Revision(
        number=1,
        base_model=BaseModel(uri="simulated://tiny", served_name="demo"),
        engine=EngineSpec(name=EngineName.SIMULATED),
        shapes=(ResourceShape(accelerator="cpu"),),
    ),
    scaling=Scaling(min_replicas=1, max_replicas=1),
)


class Users:
    """Whoever asks the gateway of the one plane."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}/v1/completions"

    async def ask(self, key: str = "") -> int:
        """Return the status of a completion."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        body = {"model": "demo", "prompt": "hello", "max_tokens": 2}
        async with self._session.post(self._url, json=body, headers=headers) as answer:
            await answer.read()
            return answer.status


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[DataDirectory]:
    made = DataDirectory(tmp_path)
    try:
        yield made
    finally:
        await stop_directory(made, CLOCK)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    deadline = CLOCK.monotonic() + SECONDS_MAX
    while not await holds():
        assert CLOCK.monotonic() < deadline, "waited in vain"
        await CLOCK.sleep(0.1)


async def test_its_owners_key_and_one_that_was_made_are_good_with_all_but_the_gateway_dead(
    directory: DataDirectory,
) -> None:
    layout, supervisor = await start_fleet(directory, 1, "simulated", restart_control_plane=False)
    await wait_until_ready(Session(no_color=True).console(), directory, layout, supervisor)
    owners = read_api_key(directory.api_key)
    (plane,) = layout.planes
    context = fleet_context(directory, layout)
    async with (
        AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator,
        aiohttp.ClientSession() as session,
    ):
        users = Users(session, plane.ports.public)
        await operator.apply(DEMO)
        for_it = KeyTerms(deployments=("demo",))
        counted = replace(for_it, budget_tokens=1_000_000)
        made = await operator.create_api_key("made", counted)
        gone = await operator.create_api_key("gone", for_it)
        other = await operator.create_api_key("other", KeyTerms(deployments=("another",)))

        async def answers(key: str, status: int) -> None:
            async def does() -> bool:
                return await users.ask(key) == status

            await until(does)

        await answers(gone.text, 200)
        await operator.revoke_api_key("gone")
        await answers(gone.text, 401)
        await answers(made.text, 200)

        async def is_told() -> bool:
            spent = {row.name: row.spent_tokens for row in await operator.list_api_keys()}
            return spent["made"] > 0 and not spent["other"]

        await until(is_told)
        signal_process(supervisor, signal.SIGSTOP)  # it would start them again
        try:
            for key, record in read_living_processes(directory.processes).items():
                if key.role in (Role.CONTROL_PLANE, Role.AGENT, Role.PICKER, Role.RELAY):
                    signal_process(record, signal.SIGKILL)
                    await wait_until_gone(record)
            for text, status in (
                (owners, 200),
                (made.text, 200),
                (other.text, 403),
                (gone.text, 401),
                ("", 401),
            ):
                assert await users.ask(text) == status
        finally:
            signal_process(supervisor, signal.SIGCONT)
