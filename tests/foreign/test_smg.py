"""SMG's gateway in front of a replica with `protocol: trtllm`, as published.

Nobody here wrote this client of `trtllm.TrtllmService`: it finds out by itself which engine it has,
tokenizes, sends token ids, and hangs up when its user does. The engine behind the replica's host is
`tests.integration.trtllm_engine`, as no accelerator is here. `make test-foreign`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from skerry.plumbing.ports import free_port
from skerry.plumbing.processes import kill_group, spawn, terminate
from tests.foreign.environments import foreign_python
from tests.foreign.hub_folder import write_hub_folder
from tests.integration.replica_process import (
    CLOCK,
    MODEL,
    SERVED,
    RunningReplica,
    a_spec,
    get_json,
    post_json,
    running_replica,
)
from tests.integration.trtllm_engine import a_trtllm_engine, put_on_path

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.integration,
    pytest.mark.timeout(1200),  # the first run fetches 50 MB
    pytest.mark.asyncio(loop_scope="module"),
]

SMG = (
    "smg==1.13.0",
    "grpcio==1.85.3",
    "grpcio-health-checking==1.85.1",
    "protobuf==7.36.2",
    "pyyaml==6.0.4",
    "setproctitle==1.3.8",
    "typing-extensions==4.16.0",
)
CHAT = {"model": SERVED, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
START_SECONDS_MAX = 60.0
# The promise is 1 s from the hang-up to the free slot; two programs lie between.
FREE_SECONDS_MAX = 1.0
# It keeps its port open for 5 s when it is asked to end.
END_SECONDS_MAX = 15.0


@dataclass(frozen=True)
class Smg:
    """The gateway's address, and the replica behind it."""

    url: str
    replica: RunningReplica


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smg(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Smg]:
    python = foreign_python("smg", SMG, without_dependencies=True)
    folder = tmp_path_factory.mktemp("smg")
    write_hub_folder(MODEL, folder / SERVED)
    port, metrics_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", put_on_path(folder / "bin"))
        async with running_replica(a_spec(folder / "replica", a_trtllm_engine())) as replica:
            process = spawn(
                (
                    *(str(python.with_name("smg")), "launch"),
                    *("--worker-urls", f"grpc://{replica.grpc}"),
                    *("--model-path", str(folder / SERVED)),
                    *("--host", "127.0.0.1", "--port", str(port)),
                    *("--prometheus-port", str(metrics_port)),
                ),
                env=None,
                cwd=folder,
                stdout_path=folder / "smg.log",
            )
            try:
                found = Smg(f"http://127.0.0.1:{port}/v1/chat/completions", replica)
                await _until_it_answers(found)
                yield found
            finally:
                await terminate(process, CLOCK, END_SECONDS_MAX)
                kill_group(process)


async def _until_it_answers(smg: Smg) -> None:
    deadline = CLOCK.monotonic() + START_SECONDS_MAX
    while CLOCK.monotonic() < deadline:
        try:
            if (await post_json(smg.url, CHAT))[0] == 200:
                return
        except (aiohttp.ClientError, OSError, ValueError):
            pass
        await CLOCK.sleep(0.2)
    raise AssertionError("SMG never answered; its log is smg.log")


async def test_it_takes_the_replica_for_tensorrt_llm_and_chats(smg: Smg) -> None:
    status, answer = await post_json(smg.url, CHAT)
    assert status == 200
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5


async def test_a_user_of_it_that_hangs_up_frees_the_engine(smg: Smg) -> None:
    body = CHAT | {"max_tokens": 480, "stream": True}
    async with aiohttp.ClientSession() as session:
        async with session.post(smg.url, json=body) as response:
            assert response.status == 200
            await response.content.readline()
            _, load = await get_json(f"{smg.replica.health}/load")
            assert load["running_requests"] == 1
    left = CLOCK.monotonic()
    while (await get_json(f"{smg.replica.health}/load"))[1]["running_requests"]:
        assert CLOCK.monotonic() - left < FREE_SECONDS_MAX
        await CLOCK.sleep(0.02)
