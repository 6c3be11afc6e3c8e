"""A process that gets a small share of a core: by a control group, or by stopping it in turns."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from skerry.plumbing.processes import ProcessRecord, signal_process
from tests.faults.fleet import CLOCK

_PERIOD_MICROSECONDS = 100_000
_TURN_SECONDS = 0.5
_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


@contextlib.asynccontextmanager
async def slowed(record: ProcessRecord, share: float) -> AsyncIterator[str]:
    """Give the process that share of one core for the block; yield by which means."""
    group = _group(share)
    if group is None:
        turns = asyncio.get_running_loop().create_task(_in_turns(record, share))
        try:
            yield f"stopped and let go on in turns of {_TURN_SECONDS:g} s"
        finally:
            turns.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await turns
            signal_process(record, signal.SIGCONT)
        return
    before = group.parent / "cgroup.procs"
    try:
        (group / "cgroup.procs").write_text(str(record.pid))
        yield "cpu quota of a control group"
    finally:
        with contextlib.suppress(OSError):  # it may have ended
            before.write_text(str(record.pid))
        group.rmdir()


def _group(share: float) -> Path | None:
    """Return a new control group with the quota, None where none can be made."""
    quota = int(share * _PERIOD_MICROSECONDS)
    for parent, file, text in (
        (_V1, "cpu.cfs_quota_us", str(quota)),
        (_V2, "cpu.max", f"{quota} {_PERIOD_MICROSECONDS}"),
    ):
        group = parent / f"skerry-faults-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(text)
        except OSError:
            group.rmdir()
            continue
        return group
    return None


async def _in_turns(record: ProcessRecord, share: float) -> None:
    while True:
        signal_process(record, signal.SIGSTOP)
        await CLOCK.sleep(_TURN_SECONDS * (1 - share))
        signal_process(record, signal.SIGCONT)
        await CLOCK.sleep(_TURN_SECONDS * share)
