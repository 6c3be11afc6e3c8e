"""What a request costs inside Envoy, in instructions: `python -m benchmarks.gateway.instructions`.

Time on a shared machine varies by a factor; instructions under callgrind (Debian's valgrind) do
not. User space only, one connection, one request at a time; the kernel's part is not in it. What
Envoy does by itself meanwhile (health checks) is taken off.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.gateway.client import Load
from benchmarks.gateway.contenders import Contender, Ours, PlainEnvoy, Running, spawn
from benchmarks.gateway.engine import HOST
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port
from skerry.plumbing.trace_target import TraceTarget

CLOCK = SystemClock()
SECONDS = 4.0
START_SECONDS_MAX = 300.0
_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


def contenders(dump: Path, collector: int) -> list[Contender]:
    """Return plain Envoy and ours, without the picker; some send traces to that port."""
    target = f"http://{HOST}:{collector}"
    under = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={dump}")
    return [
        PlainEnvoy(under=under),
        Ours(under=under),
        *(
            Ours(
                name=f"Skerry, {share:.0%} traced",
                under=under,
                tracing=TraceTarget(endpoint=target, sample=share),
            )
            for share in (0.01, 1.0)
        ),
    ]


async def main() -> int:
    """Print a line for each; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="bi-") as root:
        port = free_port(HOST)
        argv = [sys.executable, "-m", "benchmarks.gateway.engine", str(port)]
        engine = Running(port=port, roots=(spawn(argv, Path(root), [0, 1]),))
        try:
            for place, contender in enumerate(contenders(Path(root) / "dump", port)):
                folder = Path(root) / str(place)
                folder.mkdir()
                running = contender.start(folder, port, [0, 1])
                try:
                    cost = await _cost(running, Path(root))
                finally:
                    running.stop()
                print(f"{contender.name}: {cost:,.0f} instructions a request", flush=True)
        finally:
            engine.stop()
    return 0


async def _cost(running: Running, folder: Path) -> float:
    load, envoy = Load(running.port), running.roots[0].pid
    async with asyncio.timeout(START_SECONDS_MAX):
        while not await load.answers():
            await CLOCK.sleep(0.5)
    _tell(envoy, "--instr=on")
    await load.closed(1, SECONDS)  # translates what it comes upon
    _tell(envoy, "--zero")
    answered = (await load.closed(1, SECONDS)).answered
    busy = await _dumped(envoy, folder)
    await CLOCK.sleep(SECONDS)
    return (busy - await _dumped(envoy, folder)) / answered


async def _dumped(pid: int, folder: Path) -> int:
    """Return the instructions since the last dump."""
    _tell(pid, "--dump")
    while not (total := _read(folder)):
        await CLOCK.sleep(0.2)
    return total


def _read(folder: Path) -> int:
    """Return what whole dumps say, 0 without any, and remove them."""
    total = 0
    for file in folder.glob("dump*"):
        if found := _TOTAL.search(file.read_text()):
            total += int(found[1])
            file.unlink()
    return total


def _tell(pid: int, what: str) -> None:
    subprocess.run(["callgrind_control", what, str(pid)], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
