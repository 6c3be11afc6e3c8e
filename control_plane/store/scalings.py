"""What the global loop of autoscaling decided: what holds of each deployment, and the last records.

Reconciliation writes both in one transaction. The change log tells what moved; that a round left
everything as it was, or changed figures alone, is only in the records.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.projects import projects_of
from skerry.fleet.autoscaling.scaled import FleetRecord, Scaled
from skerry.fleet.names import full_name
from skerry.plumbing.errors import StaleGeneration

_SCALED = TypeAdapter(Scaled)
# Of one deployment, at 1 kB each (4 kB of many planes): half a day of rounds of 30 s.
RECORDS_OF_DEPLOYMENT_MAX = 1_440
# Of all together: some 200 MB. A fleet of thousands keeps fewer of each.
RECORDS_MAX = 200_000
RECORDS_OF_DEPLOYMENT_MIN = 16
# Of one transaction; the store has one thread, and whoever reads waits for so many.
TOGETHER_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingStep:
    """What a round decided of one deployment; `before` is what it was decided from.

    It moved something where they differ. `record` None: as the round before, with nothing that was
    counted.
    """

    scaled: Scaled
    before: Scaled | None
    record: FleetRecord | None


def put_scalings(session: Session, write: WriteContext, steps: Sequence[ScalingStep]) -> None:
    """Store what a round decided, all or none; old records are forgotten.

    StaleGeneration when something else holds of one of them by now. What is decided of a
    deployment that was removed meanwhile is passed over.
    """
    check_epoch(session, write.epoch)
    assert len(steps) <= TOGETHER_MAX, "the caller writes in pieces"
    names = [step.scaled.deployment for step in steps]
    table = tables.scalings
    locked = session.execute(
        select(table.c.deployment, table.c.scaled)
        .where(table.c.deployment.in_(names))
        .order_by(table.c.deployment)
        .with_for_update()
    )
    held = {row.deployment: row.scaled for row in locked}
    there = projects_of(session, names)
    steps = [step for step in steps if step.scaled.deployment in there]
    for step in steps:
        name = step.scaled.deployment
        if held.get(name) != step.before:
            raise StaleGeneration(f"the scaling of {name!r} was decided meanwhile; read it again")
        if step.scaled != step.before:
            _put(session, replace(write, project=there[name]), step)
    _keep(session, write, [step.record for step in steps if step.record is not None])


def in_batches(steps: Sequence[ScalingStep]) -> Iterator[Sequence[ScalingStep]]:
    """Yield what a round decided in its order, in pieces that are stored together."""
    for start in range(0, len(steps), TOGETHER_MAX):
        yield steps[start : start + TOGETHER_MAX]


def list_scalings(session: Session) -> tuple[Scaled, ...]:
    """Return what holds of every deployment that was ever decided, by deployment."""
    table = tables.scalings
    return tuple(session.execute(select(table.c.scaled).order_by(table.c.deployment)).scalars())


def list_scaling_records(
    session: Session, deployment: str, most: int = RECORDS_OF_DEPLOYMENT_MAX
) -> tuple[FleetRecord, ...]:
    """Return the decisions that are kept of a deployment, the newest first."""
    table = tables.scaling_records
    query = select(table.c.record).where(table.c.deployment == deployment)
    newest = query.order_by(table.c.number.desc()).limit(most)
    return tuple(session.execute(newest).scalars())


def forget_scaling(session: Session, name: str) -> None:
    """Forget a deployment that is removed, in the transaction that does so."""
    for table in (tables.scalings, tables.scaling_records):
        session.execute(delete(table).where(table.c.deployment == name))


def _put(session: Session, write: WriteContext, step: ScalingStep) -> None:
    table, name = tables.scalings, step.scaled.deployment
    values = {"scaled": step.scaled, "updated_at": write.now}
    if step.before is None:
        session.execute(insert(table).values(deployment=name, **values))
    else:
        session.execute(update(table).where(table.c.deployment == name).values(**values))
    effect = Effect(
        before=None if step.before is None else _changed(step.before, step.scaled),
        after=_changed(step.scaled, step.before),
    )
    subject = full_name(write.project, "deployments", name)
    why = step.record.sentence if step.record is not None else "as before"
    append_change(session, write, "scaling.moved", subject, why, effect)


def _changed(scaled: Scaled, other: Scaled | None) -> Any:
    """Return it as JSON with the targets that the other has not: of thousands a few move."""
    same = set(other.targets if other is not None else ())
    targets = tuple(one for one in scaled.targets if one not in same)
    return _SCALED.dump_python(replace(scaled, targets=targets), mode="json")


def _keep(session: Session, write: WriteContext, records: Sequence[FleetRecord]) -> None:
    if not records:
        return
    table = tables.scaling_records
    names = [record.deployment for record in records]
    query = select(table.c.deployment, func.max(table.c.number))
    numbers: dict[str, int] = {
        name: int(number)
        for name, number in session.execute(
            query.where(table.c.deployment.in_(names)).group_by(table.c.deployment)
        )
    }
    count = session.execute(select(func.count()).select_from(tables.scalings)).scalar_one()
    kept = min(
        max(RECORDS_OF_DEPLOYMENT_MIN, RECORDS_MAX // max(1, count)), RECORDS_OF_DEPLOYMENT_MAX
    )
    rows = []
    for record in records:
        number = numbers.get(record.deployment, 0) + 1
        rows.append(
            {
                "deployment": record.deployment,
                "number": number,
                "decided_at": write.now,
                "record": record,
            }
        )
        mine = table.c.deployment == record.deployment
        session.execute(delete(table).where(mine, table.c.number <= number - kept))
    session.execute(insert(table), rows)
