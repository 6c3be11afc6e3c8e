"""The agent's process: `python -m workload_plane.main --settings FILE [--stop-replicas]`.

Composition root: reads the settings, takes the plane's lock, runs the agent. SIGTERM ends the
agent alone, replicas serve on; `--stop-replicas` ends them, in order, when no agent runs.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import Conflict, SkerryError
from skerry.plumbing.files import lock_file
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.tasks import stop_on_signals
from workload_plane.agent import Agent
from workload_plane.replica_host.ending import STOP_SECONDS_MAX
from workload_plane.replicas.choice import choose_runtime, end_beside
from workload_plane.replicas.port import ReplicaRuntime
from workload_plane.settings import PlaneSettings, read_settings

_log = logs.get_logger(__name__)

# Joining a Ray cluster takes 5 s on a quiet machine; nodes of one that is gone stay as they are.
REACH_SECONDS_MAX = 60.0
EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 refused or failed, 2 bad settings."""
    parser = argparse.ArgumentParser(prog="skerry-plane", description="the agent of one plane")
    parser.add_argument("--settings", type=Path, required=True, help="the plane's settings.json")
    parser.add_argument(
        "--stop-replicas",
        action="store_true",
        help="end all replicas of the plane and exit; the agent must not run",
    )
    options = parser.parse_args(argv)
    logs.configure()
    try:
        settings = read_settings(options.settings)
    except SkerryError as error:
        print(f"skerry-plane: {error}", file=sys.stderr)
        return EXIT_USAGE
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with lock_file(settings.data_dir / "agent.lock"):
            with logs.bind(plane=settings.plane):
                work = stop_replicas if options.stop_replicas else run_agent
                asyncio.run(work(settings, SystemClock()))
    except Conflict as error:
        pid = error.hints.get("pid") or "unknown"
        print(
            f"skerry-plane: an agent of plane {settings.plane} runs already (process {pid});"
            " stop it first",
            file=sys.stderr,
        )
        return EXIT_FAILED
    except (SkerryError, OSError) as error:
        print(f"skerry-plane: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


async def run_agent(settings: PlaneSettings, clock: Clock) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    agent = Agent(settings, clock, SystemIds(clock))
    _log.info("agent.started", data_dir=settings.data_dir)
    await agent.run(stop)
    _log.info("agent.stopped")


async def stop_replicas(settings: PlaneSettings, clock: Clock) -> None:
    """End every replica of the plane, all at once; raises when one does not end."""
    hosting = choose_runtime(settings, clock, SystemIds(clock))
    async with asyncio.TaskGroup() as group:
        reach = group.create_task(hosting.reach()) if hosting.reach is not None else None
        failures = await _end_all(hosting.runtime)
        deadline = clock.monotonic() + REACH_SECONDS_MAX
        while failures and reach is not None and clock.monotonic() < deadline:
            await clock.sleep(1.0)  # nodes that were not reached yet
            failures = await _end_all(hosting.runtime)
        if reach is not None:
            reach.cancel()
    if failures:
        raise SkerryError("; ".join(failures))
    await end_beside(settings, clock)


async def _end_all(runtime: ReplicaRuntime) -> list[str]:
    """End every replica once and return why some did not end."""
    records = [one.record for one in await runtime.list()]
    ends = [runtime.stop(record, STOP_SECONDS_MAX) for record in records]
    failures = [str(end) for end in await asyncio.gather(*ends, return_exceptions=True) if end]
    _log.info("replicas.stopped", count=len(records) - len(failures))
    return failures


if __name__ == "__main__":
    raise SystemExit(main())
