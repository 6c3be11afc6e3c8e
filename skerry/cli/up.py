"""`skerry up`: a fleet on this host, supervised until `skerry down`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import Session, UsageFault, session_of
from skerry.plumbing.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.cli.supervisor.layout import DataDirectory, Layout
    from skerry.cli.supervisor.preparation import Choices
    from skerry.plumbing.processes import ProcessRecord

# Each plane is shown by the foreground display this often.
_STATUS_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What `up` was asked for; None or nothing leaves it as it was."""

    planes: int | None
    engine: str | None
    runtimes: tuple[str, ...]
    restart_control_plane: bool
    control_planes: int | None
    database: str | None
    auth: bool | None
    keys: bool | None
    engine_user: str | None
    tls: bool | None
    trace_endpoint: str | None
    sealing_keys: tuple[str, ...] | None


# Who is let in, and what an engine is: the rest of what `up` may be told.
_Auth = Annotated[
    bool | None,
    typer.Option("--auth/--no-auth", help="Ask for a credential; default yes, or as before."),
]
_Keys = Annotated[
    bool | None,
    typer.Option("--keys/--no-keys", help="Ask users for API keys; default yes, or as before."),
]
_EngineUser = Annotated[
    str | None,
    typer.Option("--engine-user", help="As root: UID or UID:GID of engines; '' for yours."),
]
_Tls = Annotated[
    bool | None,
    typer.Option("--tls/--no-tls", help="Operator API by TLS; default no, or as before."),
]

_TraceEndpoint = Annotated[
    str | None,
    typer.Option("--trace-endpoint", help="http://HOST:4318 of a trace collector; '' for none."),
]

_SealingKeys = Annotated[
    list[str] | None,
    typer.Option("--sealing-key", help="Where a key is, newest first; '' for none. Repeatable."),
]


def up(
    context: typer.Context,
    planes: Annotated[
        int | None, typer.Option("--planes", help="How many, 1..32; default 3, or as before.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="llamacpp (default), or simulated for every deployment."),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option("--runtime", help="local (default) or ray, for all planes; or PLANE=ray."),
    ] = None,
    control_planes: Annotated[
        int | None,
        typer.Option("--control-planes", help="One leads, the others stand by; needs --database."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", help="postgresql://USER@HOST/NAME; default an SQLite file."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where the fleet lives; default ~/.skerry.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the fleet answers.")
    ] = False,
    only: Annotated[
        str | None, typer.Option("--only", help="Start a dead plane or control-plane again.")
    ] = None,
    restart_control_plane: Annotated[
        bool, typer.Option("--restart-control-plane", help="Supervise the control plane too.")
    ] = False,
    auth: _Auth = None,
    keys: _Keys = None,
    engine_user: _EngineUser = None,
    tls: _Tls = None,
    trace_endpoint: _TraceEndpoint = None,
    sealing_key: _SealingKeys = None,
) -> None:
    """Start a control plane and N planes on this host, and keep them running."""
    import asyncio

    session = session_of(context)
    directory = resolve_directory(data_dir)
    if only is not None:
        started = asyncio.run(start_only(directory, only))
        what = ", ".join(started) or "nothing: it runs"
        session.console().print(f"started {what}")
        return
    try:
        wanted = _Wanted(
            planes=planes,
            engine=engine,
            runtimes=tuple(runtime or ()),
            restart_control_plane=restart_control_plane,
            control_planes=control_planes,
            database=database,
            auth=auth,
            keys=keys,
            engine_user=engine_user,
            tls=tls,
            trace_endpoint=trace_endpoint,
            sealing_keys=tuple(filter(None, sealing_key)) if sealing_key else None,
        )
        asyncio.run(_up(session, directory, wanted, detach))
    except InvalidInput as fault:
        raise UsageFault(fault.message) from None


def resolve_directory(data_dir: Path | None) -> "DataDirectory":
    """Return the data directory named, or the default one."""
    from skerry.cli.supervisor.layout import DataDirectory
    from skerry.client.context import default_data_directory

    return DataDirectory((data_dir or default_data_directory(os.environ)).resolve())


async def start_only(directory: "DataDirectory", name: str) -> list[str]:
    """Have the supervisor start a dead plane, or the control plane; return what it started."""
    from skerry.cli.supervisor.control_socket import ask

    try:
        reply = await ask(directory.socket, {"verb": "start", "name": name})
    except Unavailable:
        raise Unavailable(
            f"no fleet is supervised in {directory.root};"
            f" `skerry up --data-dir {directory.root}` starts it"
        ) from None
    return list(reply["started"])


async def start_fleet(
    directory: "DataDirectory",
    planes: int | None,
    engine: str | None,
    *,
    restart_control_plane: bool,
    choices: "Choices | None" = None,
) -> "tuple[Layout, ProcessRecord]":
    """Prepare the directory and start its supervisor; None leaves planes or engine as before."""
    import sys

    from skerry.cli.supervisor.log_files import begin_log
    from skerry.cli.supervisor.parts import process_environment
    from skerry.cli.supervisor.preparation import AS_BEFORE, prepare
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.processes import spawn

    layout = prepare(
        directory, planes, engine, SystemClock().now(), os.environ, choices or AS_BEFORE
    )
    argv = [sys.executable, "-m", "skerry.cli.supervisor", str(directory.root)]
    if restart_control_plane:
        argv.append("--restart-control-plane")
    begin_log(directory.supervisor_log)
    supervisor = spawn(
        argv,
        env=process_environment(),
        cwd=directory.root,
        stdout_path=directory.supervisor_log,
    )
    return layout, supervisor


async def _up(session: Session, directory: "DataDirectory", wanted: _Wanted, detach: bool) -> None:
    import asyncio

    from skerry.cli.down import stop_directory
    from skerry.cli.supervisor.open_files import hard_limit, shortage
    from skerry.cli.supervisor.preparation import Choices
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.tasks import first_of, stop_on_signals

    clock = SystemClock()
    console = session.console()
    if missing := shortage(hard_limit()):
        console.print(f"warning: {missing}")
    layout, supervisor = await start_fleet(
        directory,
        wanted.planes,
        wanted.engine,
        restart_control_plane=wanted.restart_control_plane,
        choices=Choices(
            runtimes=wanted.runtimes,
            control_planes=wanted.control_planes,
            database=wanted.database,
            auth=wanted.auth,
            keys=wanted.keys,
            engine_user=wanted.engine_user,
            tls=wanted.tls,
            trace_endpoint=wanted.trace_endpoint,
            sealing_keys=wanted.sealing_keys,
        ),
    )
    stop = asyncio.Event()
    stop_on_signals(stop)
    is_up = False

    async def bring_up() -> None:
        nonlocal is_up
        await wait_until_ready(console, directory, layout, supervisor)
        is_up = True

    try:
        await first_of(bring_up(), stop.wait())
    except* Exception as failures:
        await stop_directory(directory, clock)
        raise failures.exceptions[0] from None
    if is_up and not stop.is_set():
        print_access(console, directory, layout)
        if detach:
            return
        await _stay(console, directory, supervisor, stop)
    console.print("stopping")
    await stop_directory(directory, clock)


async def wait_until_ready(
    console: "Console", directory: "DataDirectory", layout: "Layout", supervisor: "ProcessRecord"
) -> None:
    """Wait for the fleet, with a line for each step; its pools are priced on the way.

    Its first API key is made where gateways ask for one.
    """
    from skerry.cli.supervisor.first_key import ensure_first_key
    from skerry.cli.supervisor.readiness import until_ready
    from skerry.cli.supervisor.settings_files import fleet_context
    from skerry.client.operator import AsyncOperatorClient
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds

    clock = SystemClock()
    context = fleet_context(directory, layout)
    async with AsyncOperatorClient(context, SystemIds(clock), "user:skerry-up") as client:
        async for progress in until_ready(directory, layout, supervisor, client, clock):
            state = "answers" if progress.control_plane else "is starting"
            console.print(
                f"control plane {state}; {progress.connected} of {progress.planes} planes connected"
            )
        if layout.keys:
            await ensure_first_key(directory.api_key, client, clock)


def print_access(console: "Console", directory: "DataDirectory", layout: "Layout") -> None:
    """Print how to talk to a fleet that is up."""
    from skerry.cli.supervisor.layout import HOST

    console.print(f"the fleet is up in {directory.root}")
    console.print(f"  export SKERRY_CONFIG={directory.config}")
    console.print("  skerry get planes        skerry apply -f examples/demo-cpu.yaml")
    console.print("  skerry chat -m 'Tell me a story.'")
    signed = f" with the token in {directory.operator_token}" if layout.auth else ""
    console.print(f"  http://{layout.control_planes[0].dashboard_address}/ (dashboard){signed}")
    if not layout.auth:
        console.print(
            "  warning: whoever is on this host may change the fleet;"
            f" `skerry up --auth --data-dir {directory.root}` asks for a credential"
        )
    if layout.keys:
        console.print(f"  the API key for its gateways is in {directory.api_key}")
    else:
        console.print(
            "  warning: whoever reaches a gateway may ask its models;"
            f" `skerry up --keys --data-dir {directory.root}` asks for API keys"
        )
    if os.geteuid() == 0 and not layout.engine_user:
        console.print(
            "  warning: engines run as root, with all that it may read;"
            f" `skerry up --engine-user 60900 --data-dir {directory.root}` takes that from them"
        )
    for plane in layout.planes:
        console.print(f"  {plane.name:<24} http://{HOST}:{plane.ports.public}/v1")
    console.print(f"  skerry down --data-dir {directory.root}")


async def _stay(
    console: "Console", directory: "DataDirectory", supervisor: "ProcessRecord", stop: object
) -> None:
    """Show what runs until `stop` is set; Unavailable when the supervisor dies meanwhile."""
    import asyncio

    from skerry.cli.supervisor.fleet_file import read_fleet
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.processes import is_alive
    from skerry.plumbing.tasks import sleep_unless_stopped

    assert isinstance(stop, asyncio.Event)
    clock = SystemClock()
    shown = ""
    console.print("Ctrl-C stops it")
    with console.status("") as status:
        while not await sleep_unless_stopped(_STATUS_SECONDS, clock, stop):
            if not is_alive(supervisor):
                if read_fleet(directory.fleet)["supervisor_pid"] is None:
                    return  # somebody ran `skerry down`
                raise Unavailable(
                    f"the supervisor ended; its processes go on. See {directory.supervisor_log};"
                    f" `skerry up --data-dir {directory.root}` adopts them"
                )
            line = describe_fleet(read_fleet(directory.fleet))
            status.update(line)
            if line != shown and not console.is_terminal:
                console.print(line)
            shown = line


def describe_fleet(fleet: "dict[str, object]") -> str:
    """Return one line on what of the fleet runs."""
    control_planes = fleet["control_planes"]
    planes = fleet["planes"]
    assert isinstance(control_planes, list)
    assert isinstance(planes, list)
    # `control-plane-2` reads as a name, the only one there is as words.
    deciding = [
        f"{one['name'].replace('control-plane', 'control plane')} {'up' if one['pid'] else 'down'}"
        for one in control_planes
    ]
    serving = [
        f"{p['name']} {'up' if p['agent_pid'] and p['gateway_pid'] else 'down'}"
        f" ({len(p['replicas'])} replicas)"
        for p in planes
    ]
    return ", ".join(deciding) + "; " + ", ".join(serving)
