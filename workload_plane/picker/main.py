"""The picker's process: `python -m workload_plane.picker.main --settings FILE`.

Composition root. It needs picker.json, its sockets' folder and Envoy's admin page: no agent, no
control plane. Without it the gateway balances by itself.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.guard import begin_guard
from skerry.plumbing.ids import IdSource, SystemIds
from workload_plane.picker.serving import PickerProcess
from workload_plane.settings import PlaneSettings, read_settings

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; return 0, 1 when it can't listen, 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="skerry-picker", description="a plane's endpoint picker")
    parser.add_argument("--settings", type=Path, required=True, help="the plane's settings.json")
    options = parser.parse_args(argv)
    logs.configure()
    try:
        settings = read_settings(options.settings)
    except SkerryError as error:
        print(f"skerry-picker: {error}", file=sys.stderr)
        return EXIT_USAGE
    clock = SystemClock()
    guard = begin_guard("skerry-picker")
    try:
        with logs.bind(plane=settings.plane):
            uvloop.run(serve(settings, clock, SystemIds(clock), guard))
    except (SkerryError, OSError) as error:
        print(f"skerry-picker: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


async def serve(settings: PlaneSettings, clock: Clock, ids: IdSource, guard: int) -> None:
    """Serve the plane's picker until SIGTERM or SIGINT, and tell the guard."""
    await PickerProcess(settings, clock, ids, guard).run()


if __name__ == "__main__":
    raise SystemExit(main())
