"""What the operator API needs of the rest of the control plane, handed in by `main.py`."""

from collections.abc import Callable, Mapping
from typing import Protocol

from scheduler.plan import PlacementPlan
from skerry.fleet.deployment import Deployment
from skerry.fleet.generation import Version
from skerry.fleet.observation import Observation, PlaneCondition
from skerry.fleet.placement import Placement
from skerry.plumbing.errors import FieldViolation

# Says what the deployment's engine would refuse; empty when it would start.
EngineCheck = Callable[[Deployment], tuple[FieldViolation, ...]]


class Leader(Protocol):
    """The right to write of this control plane."""

    @property
    def epoch(self) -> int:
        """Return the epoch under which this process leads; 0 while it does not."""
        ...


class PlannedChange(Protocol):
    """A plan that was not applied, and what it would change."""

    @property
    def plan(self) -> PlacementPlan:
        """Return the plan."""
        ...

    @property
    def before(self) -> tuple[Placement, ...]:
        """Return the placements that are in force now."""
        ...

    @property
    def solve_seconds(self) -> float:
        """Return how long the solver took."""
        ...


class Planner(Protocol):
    """Plans without applying."""

    async def plan(self, deployment: Deployment | None) -> PlannedChange:
        """Return what placing would change, with `deployment` applied if given."""
        ...


class Reconciler(Leader, Planner, Protocol):
    """The reconcile loop, as the API sees it."""

    def wake(self) -> None:
        """Hear that something changed and look at once."""
        ...


class LinkSight(Protocol):
    """What the link knows of one plane."""

    @property
    def nack(self) -> str:
        """Return why the plane refused its last desired state; empty when it did not."""
        ...


class Live(Protocol):
    """What planes reported in this run of the control plane."""

    def observations(self) -> Mapping[str, Observation]:
        """Return the newest observation of every plane heard, by name."""
        ...

    def conditions(self) -> Mapping[str, PlaneCondition]:
        """Return how planes were judged last, by name; empty before the first turn."""
        ...

    def pushed(self, plane: str) -> Version | None:
        """Return the version last pushed to a plane by this control plane, None before that."""
        ...

    def view(self, plane: str) -> LinkSight:
        """Return what is known of a plane's link."""
        ...
