"""Notices an engine that says it is healthy and never comes to the end of what it works on.

Called by the keeper. llama.cpp answers its health check beside its work, its metrics page between
two turns of it. A grammar that can be read in too many ways makes a turn that lasts for ever, and
everybody else's request waits for it.
"""

import asyncio

from workload_plane.replica_host.host import ReplicaHost

_LOOK_SECONDS = 2.0
# Of a host that was stopped itself the first timeout says nothing, and its engine, most likely
# stopped with it, may be in the middle of a turn: it has the whole time once more.
_LATE_SECONDS = 2.0
_AGAIN_SECONDS = 5.0


async def until_stuck(host: ReplicaHost) -> float:
    """Return once a turn of the engine has taken too long, and for how many seconds that is."""
    most = host.launch.turn_seconds_max
    if most is None:
        await asyncio.Event().wait()  # nothing tells turns of this engine apart
        raise AssertionError("an event that nobody sets was set")
    while True:
        await host.clock.sleep(_LOOK_SECONDS)
        began = host.clock.monotonic()
        if not host.health.serving or await host.engine.turns(most):
            continue
        was_stopped = host.clock.monotonic() - began > most + _LATE_SECONDS
        again = most if was_stopped else _AGAIN_SECONDS
        if host.health.serving and not await host.engine.turns(again):
            return most
