"""Another caller, in a process of its own: how soon it is answered while others send nonsense.

`python -m tests.fuzz.witness FILE CONFIG [GATEWAY]` appends lines `KIND MOMENT MILLISECONDS` to
FILE, the moment by the machine's monotonic clock, milliseconds -1 for a call that failed.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import aiohttp

from skerry.client.context import load_context
from skerry.client.operator import AsyncOperatorClient
from skerry.client.retrying import NO_RETRIES
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import NotFound, SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord, spawn, terminate
from tests.fuzz.tally import Witnessed, witnessed

CLOCK = SystemClock()
PERIOD_SECONDS = 0.05
CALL_SECONDS = 5.0
STOP_SECONDS = 10.0
START_SECONDS_MAX, LOOK_SECONDS = 120.0, 0.2
ROOT = Path(__file__).resolve().parents[2]
MODEL = "chat-model"
FAILED = -1.0


@dataclass(slots=True)
class Witness:
    """The process's records so far."""

    path: Path

    def since(self, moment: float) -> dict[str, Witnessed]:
        """Return how each kind of call fared since a moment."""
        found: dict[str, tuple[list[float], int]] = {}
        for line in self.path.read_text().splitlines():
            words = line.split()
            if len(words) != 3 or float(words[1]) < moment:
                continue
            times, failed = found.setdefault(words[0], ([], 0))
            if float(words[2]) == FAILED:
                found[words[0]] = (times, failed + 1)
            else:
                times.append(float(words[2]))
        return {kind: witnessed(*told) for kind, told in found.items()}


@contextlib.asynccontextmanager
async def a_witness(path: Path, config: Path, gateway: str = "") -> AsyncIterator[Witness]:
    """Have a witness ask at the API, and at a gateway where one is given."""
    process = _started(path, [str(path), str(config), *([gateway] if gateway else [])])
    witness = Witness(path)
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while not witness.since(0.0):
                await CLOCK.sleep(LOOK_SECONDS)
        yield witness
    finally:
        await terminate(process, CLOCK, STOP_SECONDS)


def _started(path: Path, told: list[str]) -> ProcessRecord:
    path.touch()
    return spawn(
        [sys.executable, "-m", "tests.fuzz.witness", *told],
        env=dict(os.environ),
        cwd=ROOT,
        stdout_path=path.with_suffix(".log"),
    )


async def _watch(file: TextIO, kind: str, ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        began = CLOCK.monotonic()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await ask()
            milliseconds = (CLOCK.monotonic() - began) * 1_000
        except (SkerryError, aiohttp.ClientError, TimeoutError) as error:
            milliseconds = FAILED
            print(f"{kind}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        file.write(f"{kind} {began:.6f} {milliseconds:.3f}\n")
        file.flush()
        await CLOCK.sleep(max(0.0, PERIOD_SECONDS - (CLOCK.monotonic() - began)))


async def _run(path: Path, config: Path, gateway: str) -> None:
    context = load_context(config, None, {})
    async with (
        AsyncOperatorClient(context, SystemIds(CLOCK), "user:fuzz", retries=NO_RETRIES) as client,
        aiohttp.ClientSession() as http,
    ):

        async def lists() -> None:
            await client.list_planes()

        async def gets() -> None:
            with contextlib.suppress(NotFound):  # somebody may have deleted it by then
                await client.get_deployment("chat")

        async def completes() -> None:
            body = {"model": MODEL, "prompt": "hello", "max_tokens": 1}
            async with http.post(f"http://{gateway}/v1/completions", json=body) as answer:
                await answer.read()
                answer.raise_for_status()

        with path.open("a") as file:
            async with asyncio.TaskGroup() as group:
                group.create_task(_watch(file, "ListPlanes", lists))
                group.create_task(_watch(file, "GetDeployment", gets))
                if gateway:
                    group.create_task(_watch(file, "completion", completes))


def main(argv: Sequence[str]) -> None:
    """Ask until ended."""
    path, config, *rest = argv
    asyncio.run(_run(Path(path), Path(config), rest[0] if rest else ""))


if __name__ == "__main__":
    main(sys.argv[1:])
