"""The processes of a plane where no `skerry up` runs: `plane.py COMMAND --settings FILE`.

The systemd units and the images call it. `gateway` becomes Envoy. `run` keeps agent, gateway,
front and picker running inside a container, each started again alone, so that replicas outlive the
agent; on SIGTERM it ends the agent, then the replicas with their requests finished, then the rest.
`check` says which of them answers. `drain-gateway` sends everybody elsewhere and waits for streams
that are under way; `try-gateway` says whether a new Envoy would serve from the files as they are.
"""

import argparse
import asyncio
import functools
import http.client
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import Conflict, SkerryError, Unavailable
from skerry.plumbing.files import lock_file
from skerry.plumbing.ids import IdSource, SystemIds
from skerry.plumbing.ports import is_listening
from skerry.plumbing.tasks import Backoff, stop_on_signals, supervise
from workload_plane.gateway.draining import DRAIN_SECONDS_MAX, drain_gateway
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.files import BOOTSTRAP, load_published, repair
from workload_plane.gateway.trial import try_start
from workload_plane.replicas.records import LOOPBACK
from workload_plane.settings import PlaneSettings, read_settings

_log = logs.get_logger(__name__)

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
RESTART = Backoff(initial_seconds=0.5, max_seconds=10.0)
# The agent cancels what it does and ends within two seconds; more is a hung disk.
PART_STOP_SECONDS_MAX = 15.0
GATEWAY_LOOK_SECONDS = 0.2
# Peers look at each deployment once a second and believe the second bad answer.
PEERS_SECONDS = 2.0
ADMIN_SECONDS_MAX = 2.0  # Envoy's own page, on loopback
AGENT, GATEWAY, FRONT = "agent", "gateway", "front"
PICKER = "picker"  # unless the settings say `gateway.picker: false`
RELAY = "relay"  # where the settings name its ports, and once there are streams to continue
RELAY_LOOK_SECONDS = 1.0

Part = Callable[[], Awaitable[None]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 done, 1 failed or not all answers, 2 wrong usage or settings."""
    parser = argparse.ArgumentParser(prog="plane.py", description="the processes of one plane")
    commands = ("gateway", "run", "check", "drain-gateway", "try-gateway")
    parser.add_argument("command", choices=commands)
    parser.add_argument("--settings", type=Path, required=True, help="the plane's settings file")
    parser.add_argument(
        "--keep-replicas",
        action="store_true",
        help="`run` leaves replicas alone at its end: they are on other machines (runtime ray)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=DRAIN_SECONDS_MAX,
        help="how long `drain-gateway` waits for streams at most",
    )
    options = parser.parse_args(argv)
    try:
        settings = read_settings(options.settings)
    except SkerryError as error:
        print(f"plane.py: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options.command == "gateway":
        become_gateway(settings)
    if options.command == "check":
        return asyncio.run(report_health(settings))
    if options.command == "drain-gateway":
        return asyncio.run(turn_away(settings, options.seconds))
    if options.command == "try-gateway":
        return asyncio.run(report_trial(settings))
    logs.configure()
    with logs.bind(plane=settings.plane):
        clock = SystemClock()
        plane = Plane(options.settings, settings, clock, SystemIds(clock))
        return asyncio.run(plane.run(keep_replicas=options.keep_replicas))


def become_gateway(settings: PlaneSettings) -> NoReturn:
    """Repair the gateway's files and become Envoy; end with 1 while the agent has written none."""
    if not can_start_gateway(settings.gateway_dir):
        print(
            f"plane.py: no gateway files in {settings.gateway_dir} yet; the agent writes them",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_FAILED)
    program, *flags = envoy_argv(settings.gateway_dir)
    os.execv(program, [program, *flags])


def can_start_gateway(gateway_dir: Path) -> bool:
    """Repair the gateway's files and say whether they are all there, the bootstrap last."""
    if not gateway_dir.is_dir():
        return False
    repair(gateway_dir)
    return load_published(gateway_dir) is not None and (gateway_dir / BOOTSTRAP).is_file()


async def turn_away(settings: PlaneSettings, seconds_max: float) -> int:
    """Drain the gateway; return 0 when nothing is left, or nothing answers and so nothing is."""
    ended = await drain_gateway(
        settings.gateway.admin_port,
        SystemClock(),
        seconds_max,
        lambda left: print(f"{left} requests left", flush=True),
    )
    if not ended.answered:
        print("no gateway answers: nothing to drain")
    elif ended.left:
        print(f"{ended.left} requests are still under way after {seconds_max:g} s")
    else:
        print("the gateway has no request left")
    return EXIT_FAILED if ended.left else EXIT_DONE


async def report_trial(settings: PlaneSettings) -> int:
    """Say whether a new Envoy serves from the files; return 0 when it does."""
    fault = await try_start(settings.gateway_dir, SystemClock())
    print(f"a new Envoy would not serve: {fault}" if fault else "a new Envoy serves")
    return EXIT_FAILED if fault else EXIT_DONE


async def report_health(settings: PlaneSettings) -> int:
    """Print a line for each part that does not answer; return 0 when all do."""
    missing = await unhealthy_parts(settings)
    for name, why in missing.items():
        print(f"{name}: {why}")
    if not missing:
        also = " and picker" if settings.gateway.picker else ""
        print(f"agent, gateway, front{also} of {settings.plane} answer")
    return EXIT_FAILED if missing else EXIT_DONE


async def unhealthy_parts(settings: PlaneSettings) -> dict[str, str]:
    """Return why each part that does not answer is taken not to; empty when all do."""
    missing: dict[str, str] = {}
    if not is_agent_running(settings):
        missing[AGENT] = f"nobody holds {settings.data_dir / 'agent.lock'}: no agent runs"
    admin = settings.gateway.admin_port
    if await asyncio.to_thread(ask_envoy, admin, "GET", "/ready") != http.client.OK:
        missing[GATEWAY] = f"{LOOPBACK}:{admin}/ready does not answer 200: no ready Envoy"
    if not await is_listening(LOOPBACK, settings.front_port):
        missing[FRONT] = f"nothing listens on {LOOPBACK}:{settings.front_port}"
    lock = settings.picker_dir / "picker.lock"
    if settings.gateway.picker and not is_held(lock):
        missing[PICKER] = f"nobody holds {lock}: no picker runs, the gateway balances alone"
    relay = settings.relay
    has_streams = relay is not None and settings.relay_path.is_file()
    if relay is not None and has_streams and not await is_listening(LOOPBACK, relay.http_port):
        missing[RELAY] = f"nothing listens on {LOOPBACK}:{relay.http_port}"
    return missing


def is_agent_running(settings: PlaneSettings) -> bool:
    """Return whether an agent holds the plane's lock."""
    return is_held(settings.data_dir / "agent.lock")


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock."""
    if not path.is_file():
        return False
    try:
        with lock_file(path):
            return False
    except Conflict:
        return True


def ask_envoy(admin_port: int, method: str, path: str) -> int:
    """Return the status of Envoy's own page, 0 when there is no answer."""
    connection = http.client.HTTPConnection(LOOPBACK, admin_port, timeout=ADMIN_SECONDS_MAX)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class Plane:
    """One run of a plane's processes; the owner of three of them, and of no replica."""

    def __init__(self, path: Path, settings: PlaneSettings, clock: Clock, ids: IdSource) -> None:
        """Start nothing yet."""
        self._path = path
        self._settings = settings
        self._clock = clock
        self._ids = ids

    async def run(self, *, keep_replicas: bool) -> int:
        """Keep the parts running until SIGTERM or SIGINT, then end all in order."""
        stop = asyncio.Event()
        stop_on_signals(stop)
        agent = self._module("workload_plane.main")
        front = self._module("workload_plane.front.main")
        parts: dict[str, Part] = {
            AGENT: functools.partial(self._keep, AGENT, agent),
            GATEWAY: self._keep_gateway,
            FRONT: functools.partial(self._keep, FRONT, front),
        }
        if self._settings.gateway.picker:
            picker = self._module("workload_plane.picker.main")
            parts[PICKER] = functools.partial(self._keep, PICKER, picker)
        if self._settings.relay is not None:
            parts[RELAY] = self._keep_relay
        async with asyncio.TaskGroup() as group:
            running = {
                name: group.create_task(
                    supervise(name, part, self._clock, self._ids, stop, RESTART)
                )
                for name, part in parts.items()
            }
            await stop.wait()
            await self._turn_peers_away()
            await _end(running[AGENT])
            code = EXIT_DONE if keep_replicas else await self._stop_replicas(agent)
            # Last: until here the gateway carried the answers under way, and sent peers the rest.
            await drain_gateway(self._settings.gateway.admin_port, self._clock)
            await _end(running[GATEWAY])
            for name in (RELAY, PICKER, FRONT):
                if name in running:
                    await _end(running[name])
        return code

    async def _turn_peers_away(self) -> None:
        """Have the gateway fail its peers' health checks while everything here still serves."""
        admin = self._settings.gateway.admin_port
        if await asyncio.to_thread(ask_envoy, admin, "POST", "/healthcheck/fail"):
            await self._clock.sleep(PEERS_SECONDS)

    async def _stop_replicas(self, agent: Sequence[str]) -> int:
        _log.info("replicas.stopping")
        process = await _spawn([*agent, "--stop-replicas"])
        code = await process.wait()
        if code:
            _log.error("replicas.not-stopped", code=code)
        return EXIT_FAILED if code else EXIT_DONE

    async def _keep_gateway(self) -> None:
        directory = self._settings.gateway_dir
        while not await asyncio.to_thread(can_start_gateway, directory):
            await self._clock.sleep(GATEWAY_LOOK_SECONDS)
        await self._keep(GATEWAY, envoy_argv(directory))

    async def _keep_relay(self) -> None:
        while not self._settings.relay_path.is_file():
            await self._clock.sleep(RELAY_LOOK_SECONDS)
        await self._keep(RELAY, self._module("workload_plane.relay.main"))

    async def _keep(self, name: str, argv: Sequence[str]) -> None:
        """Run a part to its end, which is never meant: raises Unavailable; ends it if cancelled."""
        process = await _spawn(argv)
        _log.info("part.started", part=name, pid=process.pid)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await self._terminate(process)
            raise
        raise Unavailable(f"{name} ended with {code}; it is started again")

    async def _terminate(self, process: asyncio.subprocess.Process) -> None:
        process.terminate()
        try:
            async with asyncio.timeout(PART_STOP_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _module(self, name: str) -> list[str]:
        return [sys.executable, "-m", name, "--settings", str(self._path)]


async def _spawn(argv: Sequence[str]) -> asyncio.subprocess.Process:
    # A session of its own: a terminal's Ctrl-C is for this process, which ends them in order.
    return await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


if __name__ == "__main__":
    raise SystemExit(main())
