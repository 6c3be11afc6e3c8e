"""How far each deployment's newest revision is: written by reconciliation, steered by operators."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from pydantic import TypeAdapter
from sqlalchemy import delete, insert, select, tuple_, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.projects import projects_of
from control_plane.store.requests import Asked, answered, keep_told
from skerry.fleet.deployment import Revision
from skerry.fleet.names import full_name
from skerry.fleet.rollout import (
    UNDER_WAY,
    Halt,
    Rollout,
    Stage,
    paused,
    resumed,
    rolled_back,
)
from skerry.plumbing.errors import Infeasible, NotFound, StaleGeneration

_ROLLOUT = TypeAdapter(Rollout)
# Of one transaction: an fsync each would take seconds where hundreds begin at once, as after a
# start; the store has one thread, and whoever reads waits for so many.
TOGETHER_MAX = 50
PAIRS_OF_QUERY_MAX = 400  # both databases take fewer bound values than a large fleet has revisions


class Steer(StrEnum):
    """What an operator does to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    UNDO = "undo"


def put_rollouts(
    session: Session, write: WriteContext, moved: Sequence[tuple[Rollout, Rollout | None]]
) -> None:
    """Store rollouts with what each was before, all or none.

    StaleGeneration when one of them is another by now.
    """
    check_epoch(session, write.epoch)
    names = [rollout.deployment for rollout, _ in moved]
    held, projects = _locked(session, names), projects_of(session, names)
    for rollout, before in moved:
        if held.get(rollout.deployment) != before:
            raise StaleGeneration(
                f"the rollout of {rollout.deployment!r} was changed meanwhile; read it again"
            )
        project = projects.get(rollout.deployment, write.project)
        _put(session, replace(write, project=project), rollout, before)


def in_batches(
    moved: Sequence[tuple[Rollout, Rollout | None]],
) -> Iterator[Sequence[tuple[Rollout, Rollout | None]]]:
    """Yield rollouts in their order, in pieces that are stored together."""
    for start in range(0, len(moved), TOGETHER_MAX):
        yield moved[start : start + TOGETHER_MAX]


def steer_rollout(
    session: Session, write: WriteContext, name: str, steer: Steer, request_id: str
) -> Rollout:
    """Pause, resume or undo a deployment's rollout and return it.

    NotFound without one, Infeasible where that makes no sense now.
    """
    check_epoch(session, write.epoch)
    asked = Asked(request_id=request_id, kind="steer rollout", body=f"{name} {steer.value}")
    if (earlier := answered(session, write, asked)) is not None:
        return _ROLLOUT.validate_json(earlier)
    before = _find(session, name, lock=True)
    if before is None or projects_of(session, (name,)).get(name) != write.project:
        raise _no_such(name)
    after = _steered(before, steer, write)
    told = Asked(
        request_id=request_id, kind=asked.kind, body=asked.body, answer=_ROLLOUT.dump_json(after)
    )
    keep_told(session, write, told)
    if after != before:
        _put(session, write, after, before)
    return after


def list_rollouts(session: Session) -> tuple[Rollout, ...]:
    """Return every rollout, by deployment."""
    table = tables.rollouts
    return tuple(session.execute(select(table.c.rollout).order_by(table.c.deployment)).scalars())


def get_rollout(session: Session, name: str) -> Rollout:
    """Return a deployment's rollout; NotFound when there is none (yet)."""
    found = _find(session, name)
    if found is None:
        raise _no_such(name)
    return found


def forget_rollout(session: Session, name: str) -> None:
    """Forget the rollout of a deployment that is removed, in the transaction that does so."""
    session.execute(delete(tables.rollouts).where(tables.rollouts.c.deployment == name))


def revisions_of(
    session: Session, wanted: Iterable[tuple[str, int]]
) -> Mapping[str, Mapping[int, Revision]]:
    """Return these revisions (deployment, number) by deployment and number, as far as kept."""
    table = tables.revisions
    pairs = sorted(set(wanted))
    found: dict[str, dict[int, Revision]] = {}
    for start in range(0, len(pairs), PAIRS_OF_QUERY_MAX):
        some = pairs[start : start + PAIRS_OF_QUERY_MAX]
        query = select(table.c.deployment, table.c.number, table.c.revision).where(
            tuple_(table.c.deployment, table.c.number).in_(some)
        )
        for name, number, revision in session.execute(query):
            found.setdefault(name, {})[number] = revision
    return found


def all_revisions_of(session: Session, names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Return (deployment, number) of every revision of these deployments that is kept."""
    table = tables.revisions
    query = select(table.c.deployment, table.c.number)
    wanted = frozenset(names)
    return tuple((name, n) for name, n in session.execute(query) if name in wanted)


def _steered(before: Rollout, steer: Steer, write: WriteContext) -> Rollout:
    name, number = before.deployment, before.revision
    if steer is Steer.RESUME:
        if before.halt is Halt.NONE and before.stage is not Stage.ROLLED_BACK:
            return before
        return resumed(before, write.now)
    if before.stage in UNDER_WAY:
        if steer is Steer.PAUSE:
            return paused(before, f"paused by {write.actor}{_why(write)}")
        return rolled_back(before, f"undone by {write.actor}{_why(write)}", write.now)
    if steer is Steer.UNDO and before.stage is Stage.ROLLED_BACK:
        return before
    raise Infeasible(
        f"revision {number} of {name!r} is {before.state.replace('_', ' ')}, there is nothing to"
        f" {steer.value}; `skerry rollback {name}` makes an earlier revision the present one"
    )


def _why(write: WriteContext) -> str:
    return f": {write.reason}" if write.reason else ""


def _put(session: Session, write: WriteContext, rollout: Rollout, before: Rollout | None) -> None:
    table = tables.rollouts
    values = {"rollout": rollout, "updated_at": write.now}
    if before is None:
        session.execute(insert(table).values(deployment=rollout.deployment, **values))
    else:
        mine = table.c.deployment == rollout.deployment
        session.execute(update(table).where(mine).values(**values))
    effect = Effect(
        before=None if before is None else _ROLLOUT.dump_python(before, mode="json"),
        after=_ROLLOUT.dump_python(rollout, mode="json"),
    )
    subject = full_name(write.project, "deployments", rollout.deployment)
    kind = f"rollout.{rollout.state.replace('_', '-')}"
    append_change(session, write, kind, subject, _summary(rollout), effect)


def _summary(rollout: Rollout) -> str:
    number, on = rollout.revision, f" on {rollout.plane}" if rollout.plane else ""
    if rollout.reason:
        return f"revision {number}{on}: {rollout.reason}"
    match rollout.stage:
        case Stage.FIRST:
            return f"revision {number}, the first: one replica{on} before the others"
        case Stage.CANARY:
            return f"revision {rollout.stable} -> {number}: one replica{on}"
        case Stage.SOAKING:
            return f"revision {number} is READY{on} and soaks"
        case Stage.ROLLING:
            return f"revision {rollout.stable} -> {number}{on}; done: {len(rollout.done)} planes"
        case Stage.ROLLED_BACK:
            return f"revision {rollout.stable} again"
        case Stage.COMPLETE:
            return f"revision {number} is rolled out"


def _find(session: Session, name: str, *, lock: bool = False) -> Rollout | None:
    table = tables.rollouts
    query = select(table.c.rollout).where(table.c.deployment == name)
    found: Rollout | None = session.execute(
        query.with_for_update() if lock else query
    ).scalar_one_or_none()
    return found


def _locked(session: Session, names: Sequence[str]) -> dict[str, Rollout]:
    """Return rollouts by deployment, locked in the order of their names."""
    table = tables.rollouts
    query = select(table.c.deployment, table.c.rollout).order_by(table.c.deployment)
    found: dict[str, Rollout] = {}
    for start in range(0, len(names), PAIRS_OF_QUERY_MAX):
        some = table.c.deployment.in_(names[start : start + PAIRS_OF_QUERY_MAX])
        for name, rollout in session.execute(query.where(some).with_for_update()):
            found[name] = rollout
    return found


def _no_such(name: str) -> NotFound:
    return NotFound(
        f"deployment {name!r} has no rollout; `skerry get rollouts` lists them, one that was just"
        " applied has one within a second"
    )
