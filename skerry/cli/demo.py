"""`make demo`: the control plane dies, a plane dies, and users don't notice; told with figures.

Real processes, real kills, steady open-loop traffic from step 2 to the end, each request in a
ledger. KEEP=1 leaves the fleet up; SKERRY_DATA_DIR names where it lives.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import skerry
from skerry.cli.demo_display import Display
from skerry.cli.demo_fleet import DemoFleet, MemoryWatch
from skerry.cli.demo_steps import Stage, bring_to_service, tell_under_traffic
from skerry.cli.demo_story import (
    DemoReport,
    Moments,
    broken_promises,
    make_report,
)
from skerry.cli.down import stop_directory
from skerry.cli.session import EXIT_FAILED, Session, describe
from skerry.cli.supervisor.fleet_file import gateways_of
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import print_access, start_fleet, wait_until_ready
from skerry.client.credentials import read_api_key
from skerry.client.inference import connect
from skerry.client.load_ledger import Ledger
from skerry.client.manifest import read_manifests
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.deployment import Deployment
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.tasks import stop_on_signals

PLANES = 3
ENGINE = "llamacpp"
REPORT_NAME = "demo-report.json"


def main() -> int:
    """Tell the story and return its exit code: 0 only when every promise held."""
    session = Session(no_color=bool(os.environ.get("NO_COLOR")))
    named = os.environ.get("SKERRY_DATA_DIR")
    root = Path(named).resolve() if named else Path(tempfile.mkdtemp(prefix="skerry-demo-"))
    directory = DataDirectory(root)
    keep = os.environ.get("KEEP", "") not in ("", "0")
    code = EXIT_FAILED
    try:
        code = asyncio.run(_tell(session, directory, keep))
    except SkerryError as error:
        print(f"error: {describe(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    if code == 0 and not named and not keep:
        shutil.rmtree(root, ignore_errors=True)
    elif not keep:
        print(f"logs and state stay in {root}", file=sys.stderr)
    return code


async def _tell(session: Session, directory: DataDirectory, keep: bool) -> int:
    clock = SystemClock()
    started = clock.monotonic()
    console = session.console()
    display = Display(console)
    stop = asyncio.Event()
    stop_on_signals(stop)
    is_told = False
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_raise_when_set(stop))
            report = await _play(directory, display, clock, started)
            is_told = True
            watcher.cancel()
    except* SkerryError as failures:
        raise _first_of(failures) from None
    finally:
        if not (keep and is_told):
            await stop_directory(directory, clock)
    return _finish(session, report, directory, keep)


async def _play(
    directory: DataDirectory, display: Display, clock: Clock, started: float
) -> DemoReport:
    ids = SystemIds(clock)
    display.step(1, f"a control plane and {PLANES} planes start; the deployment is applied")
    with display.running():
        layout, supervisor = await start_fleet(
            directory, PLANES, ENGINE, restart_control_plane=False
        )
        await wait_until_ready(display.console, directory, layout, supervisor)
        context = fleet_context(directory, layout)
        deployment = _example()
        async with AsyncOperatorClient(context, ids, "user:demo") as client:
            fleet = DemoFleet(directory, client, clock, deployment.name)
            memory = MemoryWatch(fleet)
            gateways = gateways_of(fleet.fleet())
            key = read_api_key(directory.api_key) if layout.keys else ""
            async with connect(gateways, clock, ids, api_key=key) as inference:
                stage = Stage(
                    fleet=fleet,
                    inference=inference,
                    ledger=Ledger(clock),
                    moments=Moments(),
                    display=display,
                    clock=clock,
                )
                async with asyncio.TaskGroup() as group:
                    watch = group.create_task(memory.run())
                    await bring_to_service(stage, deployment)
                    await tell_under_traffic(stage, deployment)
                    watch.cancel()
    return make_report(
        stage.ledger.records,
        stage.moments,
        memory_peak_mib=memory.peak_mib,
        duration_seconds=clock.monotonic() - started,
    )


def _finish(session: Session, report: DemoReport, directory: DataDirectory, keep: bool) -> int:
    console = session.console()
    values = report.to_json()
    Path(REPORT_NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    console.print(f"the figures, also in {REPORT_NAME}", style="bold")
    for name, value in values.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
        )
        console.print(f"  {name:<44}{'-' if shown is None else shown}")
    broken = broken_promises(report)
    for sentence in broken:
        console.print(f"PROMISE BROKEN: {sentence}", style="red")
    if not broken:
        console.print("every promise held", style="green")
    if keep:
        from skerry.cli.supervisor.layout import read_layout

        print_access(console, directory, read_layout(directory))
    return EXIT_FAILED if broken else 0


def _example() -> Deployment:
    path = Path(skerry.__file__).resolve().parent.parent / "examples" / "demo-cpu.yaml"
    return read_manifests(path.read_bytes(), str(path))[0]


async def _raise_when_set(stop: asyncio.Event) -> None:
    await stop.wait()
    raise SkerryError("stopped before the story's end")


def _first_of(failures: BaseExceptionGroup[SkerryError]) -> SkerryError:
    first = failures.exceptions[0]
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


if __name__ == "__main__":
    sys.exit(main())
