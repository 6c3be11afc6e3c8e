"""How a checker says that something unsafe happened, and how old what is known may be."""

from collections.abc import Mapping

from control_plane.store.values import StoredDesired
from tests.simulation.world import World

# What the control plane knows is as old as a heartbeat's timeout, a slow message and a turn.
RACE_SECONDS = 9.0
# A witness's verdict is as old as two probes and a report.
SIGHT_SECONDS = 8.0
SURELY_SECONDS = 1.0  # a message was under way


Counts = Mapping[tuple[str, str], int]  # replicas by deployment and pool
Desires = tuple[StoredDesired | None, StoredDesired]  # what a plane was told before, and is now


class Broken(AssertionError):
    """A safety statement that did not hold."""


def fail(world: World, invariant: str, text: str) -> None:
    """Raise what stops the run; the first one is kept, whoever swallows it."""
    world.broken = world.broken or f"{invariant} at {world.now:.2f} s: {text}"
    raise Broken(world.broken)
