"""All that an operator says at once: deployments and every other intent, in one transaction.

The API's `Apply` calls it. Each part is written by the functions that write it alone, and is a
change of its own; the answer is kept once, for all of them.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.catalogue import (
    ACCELERATOR_KINDS,
    CLOUDS,
    REGIONS,
    REGISTERED_MODELS,
    RESERVATIONS,
    Kind,
    OnlyIf,
    find_entry,
    update_entry,
)
from control_plane.store.cordons import CORDONS_MAX, counted_cordons, find_cordon, set_cordon
from control_plane.store.deployments import AppliedOver, apply_deployments, preview_deployments
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.pools import get_terms, set_terms
from control_plane.store.prices import PRICES_OF_POOL_MAX, PriceFrom, find_price, set_price
from control_plane.store.requests import digest_of, earlier_answer, keep_answer
from control_plane.store.values import Answer, ApplyOutcome
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.deployment import Deployment
from skerry.fleet.intent import (
    KINDS,
    CordonIntent,
    Entry,
    Intent,
    PoolIntent,
    PriceIntent,
    kind_of,
    name_of,
    subject_of,
)
from skerry.plumbing.errors import Conflict, Exhausted, FieldViolation, Infeasible, InvalidInput

_ENTRY_KINDS: Mapping[type[Entry], Kind[Any]] = {
    AcceleratorKind: ACCELERATOR_KINDS,
    RegisteredModel: REGISTERED_MODELS,
    Reservation: RESERVATIONS,
    Cloud: CLOUDS,
    Region: REGIONS,
}
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {key: TypeAdapter(kind) for key, kind in KINDS.items()}
_DEPLOYMENT = TypeAdapter(Deployment)
_APPLIED_OVER = TypeAdapter(tuple[AppliedOver, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedIntent:
    """An intent, and the etag that what is there must have; empty: whatever it is now."""

    intent: Intent
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All that is asked for at once; `etags` are by the deployment's name."""

    deployments: tuple[Deployment, ...] = ()
    etags: Mapping[str, str] = field(default_factory=dict)
    intents: tuple[WantedIntent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedIntent:
    """What applying an intent did, or would do, and what was there before, if anything."""

    intent: Intent
    outcome: ApplyOutcome
    before: Intent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedAll:
    """What applying all did, or would do, in the order that it was asked for in."""

    deployments: tuple[AppliedOver, ...]
    intents: tuple[AppliedIntent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What is there of an intent, and its etag; empty where there is nothing."""

    intent: Intent | None
    etag: str = ""


def apply_wanted(
    session: Session, write: WriteContext, wanted: Wanted, request_id: str
) -> AppliedAll:
    """Apply all that is wanted, or nothing; what is there already is left as it is.

    Raises what `apply_deployments` raises; of an intent, which `intents[i]` names, Conflict when
    its etag is another, Exhausted when there is no room, InvalidInput when two are about the same.
    """
    if not wanted.intents:
        # As releases before the intents did it, so that they answer a repeat alike.
        return AppliedAll(
            deployments=apply_deployments(
                session, write, wanted.deployments, request_id, wanted.etags
            ),
            intents=(),
        )
    check_epoch(session, write.epoch)
    digest = _digest(wanted)
    if earlier := earlier_answer(session, write, request_id, digest):
        assert earlier.applied_all is not None, "the digest names the call"
        return _load(earlier.applied_all, wanted)
    _lock_deployments(session, wanted.deployments)
    held = _check_intents(session, wanted.intents, lock=True)
    done = tuple(map(_outcome, wanted.intents, held))
    for index in sorted(range(len(done)), key=lambda i: subject_of(done[i].intent)):
        if done[index].outcome is not ApplyOutcome.UNCHANGED:
            with _telling_which(index, done[index].intent):
                _put(session, write, wanted.intents[index])
    deployments: tuple[AppliedOver, ...] = ()
    if wanted.deployments:
        deployments = apply_deployments(session, write, wanted.deployments, "", wanted.etags)
    applied = AppliedAll(deployments=deployments, intents=done)
    keep_answer(session, write, request_id, digest, Answer(applied_all=_dump(applied)))
    return applied


def preview_wanted(session: Session, wanted: Wanted, now: datetime) -> AppliedAll:
    """Return what `apply_wanted` would do; raises what it raises, changes nothing."""
    held = _check_intents(session, wanted.intents)
    return AppliedAll(
        intents=tuple(map(_outcome, wanted.intents, held)),
        deployments=preview_deployments(session, wanted.deployments, now, wanted.etags),
    )


def repeated_intents(intents: Sequence[tuple[int, Intent]]) -> tuple[FieldViolation, ...]:
    """Return a violation for each (index, intent) that is about the same as one before."""
    first: dict[tuple[int, str], int] = {}
    faults = []
    for index, intent in intents:
        if (other := first.setdefault(subject_of(intent), index)) != index:
            told = f"{name_of(intent)!r} is that of intents[{other}] too; say each once"
            faults.append(FieldViolation(path=_path(index, intent), message=told))
    return tuple(faults)


def _check_intents(
    session: Session, intents: Sequence[WantedIntent], *, lock: bool = False
) -> list[_Held]:
    """Return what there is of each intent, when all of them can be applied together."""
    if faults := repeated_intents([(i, one.intent) for i, one in enumerate(intents)]):
        raise InvalidInput(f"{faults[0].path}: {faults[0].message}", violations=faults)
    # In one order, whoever asks: two that lock the same rows never wait for each other.
    order = sorted(range(len(intents)), key=lambda i: subject_of(intents[i].intent))
    found = {i: _find(session, intents[i].intent, lock=lock) for i in order}
    held = [found[i] for i in range(len(intents))]
    for index, one in enumerate(intents):
        if one.etag and one.etag != held[index].etag:
            with _telling_which(index, one.intent):
                raise _conflict(one.intent, held[index])
    _check_room(session, [(i, one.intent) for i, one in enumerate(intents) if not held[i].intent])
    return held


def _find(session: Session, intent: Intent, *, lock: bool) -> _Held:
    match intent:
        case PoolIntent(pool=pool):
            terms = get_terms(session, pool, lock=lock)
            if terms is None:
                return _Held(intent=None)
            return _Held(intent=PoolIntent(pool=pool, terms=terms.terms), etag=terms.etag)
        case PriceIntent(pool=pool, valid_from=valid_from):
            price = find_price(session, pool, valid_from, lock=lock)
            if price is None:
                return _Held(intent=None)
            return _Held(intent=replace(intent, price_per_accelerator_hour=price))
        case CordonIntent(part=part):
            cordon = find_cordon(session, part, lock=lock)
            if cordon is None:
                return _Held(intent=None)
            return _Held(
                intent=CordonIntent(part=part, reason=cordon.reason, draining=cordon.draining)
            )
        case _:
            entry = find_entry(session, _ENTRY_KINDS[type(intent)], intent.name, lock=lock)
            return _Held(intent=entry.value, etag=entry.etag) if entry else _Held(intent=None)


def _outcome(wanted: WantedIntent, held: _Held) -> AppliedIntent:
    if held.intent is None:
        outcome = ApplyOutcome.CREATED
    elif _is_same(held.intent, wanted.intent):
        outcome = ApplyOutcome.UNCHANGED
    else:
        outcome = ApplyOutcome.UPDATED
    return AppliedIntent(intent=wanted.intent, outcome=outcome, before=held.intent)


def _is_same(held: Intent, wanted: Intent) -> bool:
    if isinstance(held, CordonIntent) and isinstance(wanted, CordonIntent):
        # The reason is why it was put into that state, when it was.
        return held.state is wanted.state
    return held == wanted


def _put(session: Session, write: WriteContext, wanted: WantedIntent) -> None:
    match wanted.intent:
        case PoolIntent(pool=pool, terms=terms):
            set_terms(session, write, pool, terms, wanted.etag, "")
        case PriceIntent(pool=pool, valid_from=valid_from, price_per_accelerator_hour=dollars):
            set_price(session, write, PriceFrom(pool, valid_from, dollars), "")
        case CordonIntent(part=part, reason=reason, state=state):
            told = replace(write, reason=reason or write.reason)
            set_cordon(session, told, part, state, "")
        case entry:
            only = OnlyIf(etag=wanted.etag, allow_missing=True)
            update_entry(session, write, _ENTRY_KINDS[type(entry)], entry, only, "")


def _check_room(session: Session, new: Sequence[tuple[int, Intent]]) -> None:
    """Raise Exhausted for the first new intent of which there would be too many."""
    counted: dict[tuple[int, str], int] = {}
    for index, intent in new:
        limit, group, held = _room_of(intent)
        if limit:
            if group not in counted:
                counted[group] = session.execute(held).scalar_one()
            counted[group] += 1
            if counted[group] > limit:
                with _telling_which(index, intent):
                    raise Exhausted(
                        f"there would be more than {limit} of its kind, as many as are kept; delete"
                        " those that are over"
                    )


def _room_of(intent: Intent) -> tuple[int, tuple[int, str], Any]:
    """Return how many like it are kept (0: any number), what is counted together, and the query."""
    kind, _ = subject_of(intent)
    match intent:
        case PoolIntent():
            return 0, (kind, ""), None
        case PriceIntent(pool=pool):
            prices = tables.prices
            counted = select(func.count()).select_from(prices).where(prices.c.pool == pool)
            return PRICES_OF_POOL_MAX, (kind, pool), counted
        case CordonIntent():
            return CORDONS_MAX, (kind, ""), counted_cordons()
        case _:
            entries, entry = tables.catalogue, _ENTRY_KINDS[type(intent)]
            counted = select(func.count()).select_from(entries).where(entries.c.kind == entry.key)
            return entry.entries_max, (kind, ""), counted


def _lock_deployments(session: Session, deployments: Sequence[Deployment]) -> None:
    """Lock their rows before the first change is recorded, for that locks the counter."""
    table = tables.deployments
    names = [one.name for one in deployments]
    query = select(table.c.name).where(table.c.name.in_(names)).order_by(table.c.name)
    session.execute(query.with_for_update())


@contextlib.contextmanager
def _telling_which(index: int, intent: Intent) -> Iterator[None]:
    """Add to a refusal which of the intents it is about."""
    path = _path(index, intent)
    try:
        yield
    except (Conflict, Exhausted, Infeasible) as error:
        raise type(error)(
            f"{path}: {error.message}",
            violations=tuple(replace(v, path=f"{path}.{v.path}") for v in error.violations)
            or (FieldViolation(path=path, message=error.message),),
        ) from None


def _path(index: int, intent: Intent) -> str:
    return f"intents[{index}].{kind_of(intent)}"


def _conflict(intent: Intent, held: _Held) -> Conflict:
    now = "does not exist" if held.intent is None else f"has etag {held.etag!r} now"
    return Conflict(f"{name_of(intent)!r} {now}; read it again and decide anew", field="etag")


def _digest(wanted: Wanted) -> str:
    parts = [str(len(wanted.deployments))]
    for one in wanted.deployments:
        unnumbered = replace(one, revision=replace(one.revision, number=1))
        parts += [_DEPLOYMENT.dump_json(unnumbered).decode(), wanted.etags.get(one.name, "")]
    for asked in wanted.intents:
        kind = kind_of(asked.intent)
        parts += [kind, _ADAPTERS[kind].dump_json(asked.intent).decode(), asked.etag]
    return digest_of("apply everything", *parts)


def _dump(applied: AppliedAll) -> Mapping[str, Any]:
    """Return what was done as JSON; the intents themselves are in the repeated request."""
    intents = [
        {
            "outcome": one.outcome.value,
            "before": one.before
            and _ADAPTERS[kind_of(one.intent)].dump_python(one.before, mode="json"),
        }
        for one in applied.intents
    ]
    return {
        "deployments": _APPLIED_OVER.dump_python(applied.deployments, mode="json"),
        "intents": intents,
    }


def _load(kept: Mapping[str, Any], wanted: Wanted) -> AppliedAll:
    intents = []
    for one, asked in zip(kept["intents"], wanted.intents, strict=True):
        told = one["before"]
        read = _ADAPTERS[kind_of(asked.intent)].validate_python
        intents.append(
            AppliedIntent(
                intent=asked.intent,
                outcome=ApplyOutcome(one["outcome"]),
                before=None if told is None else read(told),
            )
        )
    deployments = _APPLIED_OVER.validate_python(kept["deployments"])
    return AppliedAll(deployments=deployments, intents=tuple(intents))
