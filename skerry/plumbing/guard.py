"""A process whose event loop hangs is killed: what waits for it is then reset, and goes elsewhere.

A child process of a few lines hears the loop beat; whoever supervises the process starts it again.
A gateway by itself sends nothing new to one that hangs, and gives up nothing that waits there.
"""

import asyncio
import os
import select
import signal
import sys

from skerry.plumbing.clock import Clock

BEAT_SECONDS = 0.25
# In a row, each without a beat. One alone may be the machine that slept, and both awake again.
SILENCES_MAX = 3
SILENCE_SECONDS = 0.75
_READ_BYTES = 4096


def begin_guard(program: str) -> int:
    """Fork the guard of this process, which is called `program`; return the descriptor for `beat`.

    Call it before there are threads, sockets or a loop.
    """
    heard, told = os.pipe()
    parent = os.getpid()
    if os.fork():
        os.close(heard)
        os.set_blocking(told, False)
        return told
    try:
        os.setsid()
        os.close(told)
        watch(heard, parent, program)
    finally:
        os._exit(0)


def watch(heard: int, parent: int, program: str) -> None:
    """Kill the parent once it falls silent for too long; return when it, or its end, is gone."""
    select.select([heard], [], [])  # to start may take any time
    silences = 0
    while os.getppid() == parent:
        ready, _, _ = select.select([heard], [], [], SILENCE_SECONDS)
        if ready:
            if not os.read(heard, _READ_BYTES):
                return
            silences = 0
            continue
        silences += 1
        # Asked again: its number might be another's by now.
        if silences >= SILENCES_MAX and os.getppid() == parent:
            seconds = SILENCES_MAX * SILENCE_SECONDS
            print(f"{program}: hung for {seconds} s, killed", file=sys.stderr, flush=True)
            os.kill(parent, signal.SIGKILL)
            return


async def beat(told: int, clock: Clock) -> None:
    """Tell the guard for ever that the loop runs; a guard that is gone is done without."""
    while True:
        try:
            os.write(told, b".")
        except BlockingIOError:
            pass  # a guard that is stopped
        except BrokenPipeError:
            await asyncio.get_running_loop().create_future()
        await clock.sleep(BEAT_SECONDS)
