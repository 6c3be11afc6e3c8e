"""Pools: the shapes planes report, with the terms operators set."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.requests import digest_of, earlier_answer, keep_answer
from control_plane.store.values import Answer, StoredPool, StoredTerms
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.pool import Pool, PoolTerms
from skerry.plumbing.errors import Conflict

_TERMS = TypeAdapter(PoolTerms)
_ETAG_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTerms:
    """A change of a pool's terms: as text that tells it from others, and on which etag."""

    pool: str
    text: str
    etag: str = ""


def set_terms(
    session: Session, write: WriteContext, pool: str, terms: PoolTerms, etag: str, request_id: str
) -> StoredPool | None:
    """Set the operator's terms of a pool; None while its plane has not reported the pool yet.

    The terms of an unreported pool wait for it. Conflict when `etag` is not empty and not the
    present one.
    """
    digest = digest_of("set-terms", pool, _TERMS.dump_json(terms).decode(), etag)
    asked = AskedTerms(pool=pool, text="", etag=etag)
    return _set(session, write, asked, lambda _: terms, (request_id, digest))


def update_terms(
    session: Session,
    write: WriteContext,
    asked: AskedTerms,
    merge: Callable[[PoolTerms], PoolTerms],
    request_id: str,
) -> StoredPool | None:
    """Bring a pool's terms to what `merge` makes of them as they are when this is written.

    `merge` is pure; it gets the defaults where none were told. Answers and raises as `set_terms`
    does, and what `merge` raises.
    """
    digest = digest_of("update-terms", asked.pool, asked.text, asked.etag)
    return _set(session, write, asked, merge, (request_id, digest))


def _set(
    session: Session,
    write: WriteContext,
    asked: AskedTerms,
    merge: Callable[[PoolTerms], PoolTerms],
    request: tuple[str, str],
) -> StoredPool | None:
    """Set the terms unless the request, by its id and digest, was answered before."""
    check_epoch(session, write.epoch)
    pool, etag = asked.pool, asked.etag
    request_id, digest = request
    if earlier_answer(session, write, request_id, digest) is not None:
        return get_pool(session, pool)
    held = get_terms(session, pool, lock=True)
    if etag and etag != (held.etag if held else ""):
        raise Conflict(
            f"the terms of pool {pool!r} were changed; read it again and decide anew", field="etag"
        )
    terms = merge(held.terms if held else PoolTerms())
    if held is not None and held.terms == terms:
        keep_answer(session, write, request_id, digest, Answer(terms=held))
        return get_pool(session, pool)
    renewed = StoredTerms(pool=pool, terms=terms, etag=_etag(held, terms, write))
    _put(session, write, held, renewed)
    keep_answer(session, write, request_id, digest, Answer(terms=renewed))
    subject = full_name(DEFAULT_PROJECT, "pools", pool)
    before = _TERMS.dump_python(held.terms, mode="json") if held else None
    effect = Effect(before=before, after=_TERMS.dump_python(terms, mode="json"))
    append_change(session, write, "pool.terms-set", subject, _summary(terms), effect)
    return get_pool(session, pool)


def get_terms(session: Session, pool: str, *, lock: bool = False) -> StoredTerms | None:
    """Return the terms of a pool, reported or not; None when none were told."""
    table = tables.pool_terms
    query = select(table.c.pool, table.c.terms, table.c.etag).where(table.c.pool == pool)
    row = session.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else StoredTerms(**row)


def get_pool(session: Session, name: str) -> StoredPool | None:
    """Return a reported pool; None while no plane has reported it."""
    found = _load(session, tables.pools.c.name == name)
    return found[0] if found else None


def list_pools(session: Session, planes: Collection[str] | None = None) -> tuple[StoredPool, ...]:
    """Return every reported pool with its terms, by its fleet-wide id; or those of these planes."""
    return _load(session, None if planes is None else tables.pools.c.plane.in_(planes))


def list_waiting_terms(session: Session) -> tuple[StoredTerms, ...]:
    """Return the terms of pools that no plane has reported yet, by the pool's fleet-wide id."""
    table, pools = tables.pool_terms, tables.pools
    query = select(table.c.pool, table.c.terms, table.c.etag)
    query = query.where(table.c.pool.not_in(select(pools.c.name)))
    found = (StoredTerms(**row) for row in session.execute(query).mappings())
    # Sorted here: PostgreSQL's collation may order `-` unlike Python does.
    return tuple(sorted(found, key=lambda terms: terms.pool))


def _load(session: Session, which: ColumnElement[bool] | None) -> tuple[StoredPool, ...]:
    pools, planes, told = tables.pools, tables.planes, tables.pool_terms
    joined = pools.join(planes, planes.c.name == pools.c.plane)
    joined = joined.outerjoin(told, told.c.pool == pools.c.name)
    query = select(planes.c.identity, pools.c.shape, told.c.terms, told.c.etag)
    query = query.select_from(joined).order_by(pools.c.name)
    if which is not None:
        query = query.where(which)
    return tuple(
        StoredPool(
            pool=Pool(plane=row["identity"], shape=row["shape"], terms=row["terms"] or PoolTerms()),
            etag=row["etag"] or "",
        )
        for row in session.execute(query).mappings()
    )


def _put(
    session: Session, write: WriteContext, held: StoredTerms | None, renewed: StoredTerms
) -> None:
    table = tables.pool_terms
    values = {"terms": renewed.terms, "etag": renewed.etag, "updated_at": write.now}
    if held is None:
        session.execute(insert(table).values(pool=renewed.pool, **values))
        return
    unchanged = (table.c.pool == held.pool) & (table.c.etag == held.etag)
    changed = update(table).where(unchanged).values(values).returning(table.c.pool)
    if session.execute(changed).one_or_none() is None:
        raise Conflict(f"the terms of pool {held.pool!r} were changed meanwhile; read it again")


def _etag(held: StoredTerms | None, terms: PoolTerms, write: WriteContext) -> str:
    before = held.etag if held else ""
    text = f"{before} {write.epoch} {write.now.isoformat()} ".encode()
    return hashlib.sha256(text + _TERMS.dump_json(terms)).hexdigest()[:_ETAG_CHARACTERS]


def _summary(terms: PoolTerms) -> str:
    price = terms.price_per_accelerator_hour
    told = "no price" if price is None else f"{price:g} USD per accelerator-hour"
    return f"{terms.capacity_class.value}, {told}{', cordoned' if terms.cordoned else ''}"
