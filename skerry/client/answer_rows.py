"""Rows of the scheduler's answers, from whatever has their fields.

`question_rows` calls it with the operator API's messages, `skerry.cli.offline` with the scheduler's
own values: both name these fields alike.
"""

from collections.abc import Iterable
from typing import Protocol

from skerry.client import questions, rows
from skerry.fleet.deployment import FailureDomain


class Shed(Protocol):
    """Replicas given up, and for whom."""

    @property
    def deployment(self) -> str: ...
    @property
    def pool(self) -> str: ...
    @property
    def replicas(self) -> int: ...
    @property
    def taken_by(self) -> Iterable[str]: ...
    @property
    def reason(self) -> str: ...


class Level(Protocol):
    """One level of the objective."""

    @property
    def level(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def bound(self) -> float: ...
    @property
    def gap(self) -> float: ...
    @property
    def unit(self) -> str: ...


class Unplaced(Protocol):
    """Replicas without a place, and why."""

    @property
    def deployment(self) -> str: ...
    @property
    def replicas(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Move(Protocol):
    """Replicas that leave one pool for another."""

    @property
    def deployment(self) -> str: ...
    @property
    def from_pool(self) -> str: ...
    @property
    def to_pool(self) -> str: ...
    @property
    def replicas(self) -> int: ...


class Explanation(Protocol):
    """Sentences about one deployment; no pool: about all of it."""

    @property
    def deployment(self) -> str: ...
    @property
    def pool(self) -> str | None: ...
    @property
    def replicas(self) -> int: ...
    @property
    def reasons(self) -> Iterable[str]: ...
    @property
    def conflict(self) -> Iterable[str]: ...


class Survivor(Protocol):
    """One deployment after one loss."""

    @property
    def deployment(self) -> str: ...
    @property
    def wanted(self) -> float: ...
    @property
    def left(self) -> float: ...
    @property
    def promised(self) -> float: ...
    @property
    def shortfall(self) -> float: ...
    @property
    def unmet_after(self) -> int | None: ...


class Loss(Protocol):
    """One domain lost."""

    @property
    def domain(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def holds(self) -> bool: ...
    @property
    def survivors(self) -> Iterable[Survivor]: ...
    @property
    def shed(self) -> Iterable[Shed]: ...
    @property
    def solved(self) -> bool: ...


def explanation(found: Explanation, ways: Iterable[questions.WayOut]) -> questions.Explanation:
    """Return why a deployment is where it is or is not."""
    return questions.Explanation(
        deployment=found.deployment,
        pool=found.pool or None,
        replicas=found.replicas,
        reasons=tuple(found.reasons),
        conflict=tuple(map(str, found.conflict)),
        ways=tuple(ways),
    )


def loss_rows(losses: Iterable[Loss]) -> tuple[questions.LossRow, ...]:
    """Return what each loss would leave."""
    return tuple(
        questions.LossRow(
            domain=FailureDomain(loss.domain),
            name=loss.name,
            holds=loss.holds,
            survivors=tuple(
                questions.SurvivorRow(
                    deployment=survivor.deployment,
                    wanted=survivor.wanted,
                    left=survivor.left,
                    promised=survivor.promised,
                    shortfall=survivor.shortfall,
                    unmet_after=survivor.unmet_after if loss.solved else None,
                )
                for survivor in loss.survivors
            ),
            shed=shed_rows(loss.shed),
            solved=loss.solved,
        )
        for loss in losses
    )


def shed_rows(found: Iterable[Shed]) -> tuple[rows.ShedRow, ...]:
    """Return the rows of what is given up."""
    return tuple(
        rows.ShedRow(
            deployment=shed.deployment,
            pool=shed.pool,
            replicas=shed.replicas,
            taken_by=tuple(shed.taken_by),
            reason=shed.reason,
        )
        for shed in found
    )


def level_rows(found: Iterable[Level]) -> tuple[rows.LevelRow, ...]:
    """Return the rows of the objective's levels."""
    return tuple(
        rows.LevelRow(level=v.level, value=v.value, bound=v.bound, gap=v.gap, unit=v.unit)
        for v in found
    )


def unplaced_rows(found: Iterable[Unplaced]) -> tuple[rows.UnplacedRow, ...]:
    """Return the rows of what finds no place."""
    return tuple(
        rows.UnplacedRow(deployment=left.deployment, replicas=left.replicas, reason=left.reason)
        for left in found
    )


def move_rows(found: Iterable[Move]) -> tuple[rows.MoveRow, ...]:
    """Return the rows of what goes elsewhere."""
    return tuple(
        rows.MoveRow(
            deployment=move.deployment,
            from_pool=move.from_pool,
            to_pool=move.to_pool,
            replicas=move.replicas,
        )
        for move in found
    )
