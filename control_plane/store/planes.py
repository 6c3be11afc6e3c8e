"""Planes as they last reported themselves, and how the control plane judges them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, Entry, append_change, append_changes
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.nodes import record_nodes
from control_plane.store.requests import Asked, answered, keep_told
from control_plane.store.values import StoredPlane
from control_plane.store.verdicts import keep_verdicts
from skerry.fleet.names import DEFAULT_PROJECT, full_name, pool_name
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.pool import PoolShape
from skerry.fleet.verdict import Verdict
from skerry.plumbing.errors import Infeasible, NotFound, StaleGeneration

_PLANE = TypeAdapter(StoredPlane)
_CONDITION = TypeAdapter(PlaneCondition)


def record_report(session: Session, write: WriteContext, report: PlaneReport) -> bool:
    """Keep what the plane says of itself and its pools; return whether anything was new.

    A pool missing from the report stays as last reported: absence is never an instruction. A plane
    whose pool has no fit node says so with 0 nodes.
    """
    check_epoch(session, write.epoch)
    name = report.identity.name
    facts = {"identity": report.identity, "gateway": report.gateway}
    held = _find(session, name)
    changed: list[str] = []
    if held is None:
        first = {"name": name, "updated_at": write.now, **facts}
        session.execute(insert(tables.planes).values(first))
        changed.append("joined")
    else:
        changed += [what for what, value in facts.items() if getattr(held, what) != value]
        if changed:
            renewed = update(tables.planes).where(tables.planes.c.name == name)
            session.execute(renewed.values(updated_at=write.now, **facts))
    changed += record_nodes(session, write, name, report.nodes)
    known = {shape.name: shape for shape in held.pools} if held else {}
    for shape in report.pools:
        if known.get(shape.name) != shape:
            _put_shape(session, name, shape, is_new=shape.name not in known)
            changed.append(f"pool {shape.name}: {shape.nodes} nodes of {shape.accelerator}")
    if changed:
        effect = Effect(before=_told(held), after=_told(_find(session, name)))
        told = "; ".join(changed)
        append_change(session, write, "plane.reported", _subject(name), told, effect)
    return bool(changed)


def set_condition(
    session: Session,
    write: WriteContext,
    plane: str,
    condition: PlaneCondition,
    before: PlaneState | None,
    verdict: Verdict | None = None,
) -> bool:
    """Keep how the plane is judged, and by which evidence; return whether that was new.

    Only a new state is a change in the log.
    StaleGeneration unless its state is `before`, the one it was judged from: an operator declared
    it lost meanwhile.
    """
    told = Judged(plane=plane, condition=condition, before=before, verdict=verdict)
    return set_conditions(session, write, (told,)) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One of several judgements that are kept together, as `set_condition` has them."""

    plane: str
    condition: PlaneCondition
    before: PlaneState | None
    verdict: Verdict | None = None


def set_conditions(session: Session, write: WriteContext, judged: Sequence[Judged]) -> int:
    """Keep how planes, each told once, are judged, all or none; return how many were new.

    In a few statements, however many they are: of thousands that fall silent or come back at once
    each took a millisecond.
    """
    check_epoch(session, write.epoch)
    table = tables.planes
    names = [one.plane for one in judged]
    query = select(table.c.name, table.c.condition).where(table.c.name.in_(names))
    rows = session.execute(query.order_by(table.c.name).with_for_update())
    held: dict[str, PlaneCondition | None] = {row.name: row.condition for row in rows}
    new = [one for one in judged if _is_new(one, held)]
    if new:
        _judge(session, write, new, held)
    return len(new)


def _is_new(one: Judged, held: Mapping[str, PlaneCondition | None]) -> bool:
    if one.plane not in held:
        raise NotFound(f"plane {one.plane!r} has not reported yet; `skerry get planes` lists them")
    condition = held[one.plane]
    if condition == one.condition:
        return False
    if (condition.state if condition else None) is not one.before:
        raise StaleGeneration(f"plane {one.plane!r} was judged otherwise meanwhile; look again")
    return True


def _entry(one: Judged, held: PlaneCondition | None) -> Entry | None:
    """Return the change that the log tells; None where the state is the one of before."""
    condition = one.condition
    if held is not None and held.state is condition.state:
        return None
    before = _CONDITION.dump_python(held, mode="json") if held else None
    return Entry(
        kind=f"plane.{condition.state.value}",
        subject=_subject(one.plane),
        summary=condition.reason,
        effect=Effect(before=before, after=_CONDITION.dump_python(condition, mode="json")),
    )


def declare_lost(session: Session, write: WriteContext, names: Sequence[str], asked: Asked) -> bool:
    """Judge planes lost by an operator's word; return False when the same call did so before.

    All of them or none: NotFound for one that never reported, Infeasible for one that is heard.
    """
    check_epoch(session, write.epoch)
    if answered(session, write, asked) is not None:
        return False
    declared = []
    for name in sorted(set(names)):
        held = _find(session, name)
        state = held.condition.state if held and held.condition else None
        if held is None:
            raise NotFound(f"plane {name!r} has not reported yet; `skerry get planes` lists them")
        if state in HEARD:
            raise Infeasible(
                f"plane {name!r} is {state.value}: it is heard; `skerry drain plane/{name}` empties"
                " it without a loss"
            )
        if state is not PlaneState.LOST:
            declared.append(held)
    keep_told(session, write, asked)
    if declared:
        judged = [_declared(write, held) for held in declared]
        _judge(session, write, judged, {held.identity.name: held.condition for held in declared})
    return True


def _declared(write: WriteContext, held: StoredPlane) -> Judged:
    """Return the judgement of a plane that an operator declares lost."""
    why = f": {write.reason}" if write.reason else ""
    before = held.condition.state if held.condition else None
    condition = PlaneCondition(
        state=PlaneState.LOST,
        since=write.now,
        reason=f"declared lost by {write.actor}{why}",
        witnesses=held.condition.witnesses if held.condition else (),
        declared=True,
        displaced=held.condition.displaced if held.condition else (),
    )
    verdict = Verdict(
        judged_at=write.now,
        state=condition.state,
        before=before,
        reason=condition.reason,
        witnesses=condition.witnesses,
        declared=True,
    )
    return Judged(plane=held.identity.name, condition=condition, before=before, verdict=verdict)


def _judge(
    session: Session,
    write: WriteContext,
    judged: Sequence[Judged],
    held: Mapping[str, PlaneCondition | None],
) -> None:
    """Write judgements of planes whose conditions were `held`, their verdicts, and the log."""
    table = tables.planes
    renewed = update(table).where(table.c.name == bindparam("of"))
    renewed = renewed.values(condition=bindparam("now", type_=table.c.condition.type))
    # Of the connection: a session takes such an update for one of mapped classes.
    session.connection().execute(
        renewed.values(updated_at=write.now),
        [{"of": one.plane, "now": one.condition} for one in judged],
    )
    keep_verdicts(session, write, {one.plane: one.verdict for one in judged if one.verdict})
    if entries := [entry for one in judged if (entry := _entry(one, held[one.plane]))]:
        append_changes(session, write, entries)


def count_planes(session: Session) -> int:
    """Return how many planes there are: one small read, where `list_planes` takes seconds."""
    return session.execute(select(func.count()).select_from(tables.planes)).scalar_one()


def list_planes(session: Session, names: Collection[str] | None = None) -> tuple[StoredPlane, ...]:
    """Return every plane with its pools, by name; or those of these names."""
    shapes: dict[str, list[PoolShape]] = {}
    planes, pools = tables.planes, tables.pools
    of_pools = select(pools).order_by(pools.c.name)
    of_planes = select(planes).order_by(planes.c.name)
    if names is not None:
        of_pools = of_pools.where(pools.c.plane.in_(names))
        of_planes = of_planes.where(planes.c.name.in_(names))
    for row in session.execute(of_pools).mappings():
        shapes.setdefault(row["plane"], []).append(row["shape"])
    rows = session.execute(of_planes).mappings()
    return tuple(
        StoredPlane(
            identity=row["identity"],
            gateway=row["gateway"],
            pools=tuple(shapes.get(row["name"], ())),
            condition=row["condition"],
            nodes_digest=row["nodes_digest"],
        )
        for row in rows
    )


def _told(stored: StoredPlane | None) -> Any:
    """Return what a plane says of itself as JSON, for the change log."""
    if stored is None:
        return None
    told = replace(stored, condition=None, nodes_digest=None)
    return _PLANE.dump_python(told, mode="json")


def _find(session: Session, name: str) -> StoredPlane | None:
    query = select(tables.planes).where(tables.planes.c.name == name).with_for_update()
    row = session.execute(query).mappings().one_or_none()
    if row is None:
        return None
    pools = tables.pools
    shapes = session.execute(select(pools.c.shape).where(pools.c.plane == name)).scalars()
    return StoredPlane(
        identity=row["identity"],
        gateway=row["gateway"],
        pools=tuple(shapes),
        condition=row["condition"],
        nodes_digest=row["nodes_digest"],
    )


def _put_shape(session: Session, plane: str, shape: PoolShape, *, is_new: bool) -> None:
    pools = tables.pools
    name = pool_name(plane, shape.name)
    if not is_new:
        session.execute(update(pools).where(pools.c.name == name).values(shape=shape))
        return
    session.execute(insert(pools).values(name=name, plane=plane, shape=shape))


def _subject(plane: str) -> str:
    return full_name(DEFAULT_PROJECT, "planes", plane)
