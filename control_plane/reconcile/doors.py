"""What the reconcile loop reaches outside of itself; `main.py` hands it the real ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from control_plane.autoscale.keeper import LiveLoads
from control_plane.reconcile.snapshot import Snapshot
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneCondition


class Solver(Protocol):
    """Answers placement problems; scheduler.process.SolverProcess is the real one."""

    async def solve(self, problem: PlacementProblem) -> PlacementPlan:
        """Return a checked plan; its `solver_reason` says why when it is a fallback."""


class Recovery(Protocol):
    """Says when the database knows less than the planes hold; control_plane.recovery.run has it."""

    @property
    def is_under_way(self) -> bool:
        """Say whether nothing may be placed, pushed or changed."""
        ...

    async def holds(self, snapshot: Snapshot, epoch: int) -> bool:
        """Say whether this turn must end here, after doing what there is to do about it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the loop reaches outside: desired states encoded and pushed, judgements, the solver.

    `targets` is told when the round of autoscaling ended whose targets every plane was told, None
    while there is none of this term.
    """

    encode: Callable[[DesiredState], tuple[bytes, bytes]]
    push: Callable[[str, Version, bytes], None]
    judged: Callable[[Mapping[str, PlaneCondition]], None]
    solver: Solver
    recovery: Recovery | None = None
    loads: LiveLoads | None = None
    targets: Callable[[float | None], None] | None = None
