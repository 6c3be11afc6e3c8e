"""How a turn over thousands of planes leaves room for heartbeats and operators: aside, and resting.

`loop.py` uses it. In a small fleet a turn takes milliseconds and nothing here does anything.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from control_plane.reconcile.snapshot import Snapshot

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# From so many planes on deciding takes longer than a heartbeat may wait.
LARGE_PLANES = 200
# And from so many pairs of a plane and a deployment.
LARGE_PAIRS = 10_000
# A turn is followed by a rest so many times as long: turns take a quarter of a core at most,
# however often planes report something new.
REST = 3.0
REST_SECONDS_MAX = 3.0  # what a plane that fell silent is judged later at most
# While planes return after a start of ours there is little to decide and much to listen to: turns
# take a tenth of a core.
REST_WAITING, REST_WAITING_SECONDS = 9.0, 10.0
# A thread that decides hands over after this; with Python's own 5 ms whoever answers heartbeats and
# operators waited that long at each of the several times that a call needs the interpreter.
SWITCH_SECONDS = 0.0005


def share_evenly() -> None:
    """Have threads of this process hand over to one another more often than Python's usual."""
    sys.setswitchinterval(SWITCH_SECONDS)


async def aside(
    snapshot: Snapshot,
    function: Callable[Arguments, Result],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Return the function's result; of a large fleet from a thread, while the loop goes on."""
    return await beside(len(snapshot.planes), len(snapshot.demands), function, *args, **kwargs)


async def beside(
    planes: int,
    deployments: int,
    function: Callable[Arguments, Result],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Do as `aside` does, for a fleet of so many planes and deployments."""
    if planes < LARGE_PLANES and planes * deployments < LARGE_PAIRS:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


def rest_after(snapshot: Snapshot | None, seconds: float) -> float:
    """Return how long nothing is decided after a turn that took so many seconds."""
    if snapshot is None or len(snapshot.planes) < LARGE_PLANES:
        return 0.0
    if snapshot.is_waiting:
        return min(REST_WAITING * seconds, REST_WAITING_SECONDS)
    return min(REST * seconds, REST_SECONDS_MAX)
