"""What the operator API needs of the rest of the control plane, handed in by `main.py`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from control_plane.autoscale.shares import Loads
from control_plane.reconcile.relocation import MoveProposal, Relocation
from control_plane.reconcile.snapshot import Seen
from control_plane.store.fencing import WriteContext
from control_plane.store.requests import Asked
from scheduler.explain import Explanation
from scheduler.plan import PlacementPlan
from scheduler.survival import Loss
from scheduler.whatif import Change, WhatIf
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.told import ToldDecision
from skerry.fleet.deployment import Deployment, FailureDomain
from skerry.fleet.generation import Version
from skerry.fleet.observation import Observation, PlaneCondition
from skerry.fleet.placement import Placement
from skerry.plumbing.errors import FieldViolation

Value_co = TypeVar("Value_co", covariant=True)

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


class Mover(Protocol):
    """Moves replicas as operators ask."""

    async def propose_move(self, move: Relocation) -> MoveProposal:
        """Return the plan in which the replicas are where they are wanted; changes nothing."""
        ...

    async def put_moved(self, write: WriteContext, told: MoveProposal, asked: Asked) -> bool:
        """Put a proposed move in force, False when that was done; Conflict when the fleet moved."""
        ...


class Watcher(Protocol):
    """What reconciliation saw of the fleet."""

    @property
    def seen(self) -> Seen | None:
        """Return what the last turn saw; None before the first."""
        ...


class Reconciler(Leader, Planner, Watcher, Protocol):
    """The reconcile loop, as the API sees it."""

    @property
    def held_back(self) -> tuple[str, ...]:
        """Return why moves wait that would be made otherwise, in words."""
        ...

    def wake(self) -> None:
        """Hear that something changed and look at once."""
        ...


class Answered(Protocol[Value_co]):
    """An answer to a question, and how long finding it took."""

    @property
    def value(self) -> Value_co:
        """Return the answer."""
        ...

    @property
    def seconds(self) -> float:
        """Return how long it took."""
        ...


class Questions(Protocol):
    """Answers questions about the fleet as it is; changes nothing."""

    async def explain(self, deployment: str, pool: str | None) -> Answered[Explanation]:
        """Return why a deployment is where it is, or why it is or is not on a pool."""
        ...

    async def what_if(self, changes: tuple[Change, ...]) -> Answered[WhatIf]:
        """Return what the changes together would do."""
        ...

    async def survive(self, domains: Sequence[FailureDomain]) -> Answered[tuple[Loss, ...]]:
        """Return what each loss of a domain of these kinds would leave."""
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

    def loads(self) -> Loads:
        """Return what planes counted last, of those that told it within a minute, by name."""
        ...

    def answers(self, deployment: str, plane: str) -> tuple[RecentAnswers, float] | None:
        """Return how answers of the last minutes went, as a plane told last, and its age in s.

        None where it told of none, or not for an hour.
        """
        ...

    def deciding(self, deployment: str) -> tuple[str, ...]:
        """Return the planes whose own loops told decisions of a deployment lately, by name."""
        ...

    def decided(self, deployment: str, plane: str, most: int) -> tuple[ToldDecision, ...]:
        """Return what a plane's own loop decided last, as far as it told, the newest first."""
        ...

    def view(self, plane: str) -> LinkSight:
        """Return what is known of a plane's link."""
        ...
