"""Cordons of clouds, regions and planes; those of a pool are among its terms."""

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.requests import digest_of, earlier_answer, keep_answer
from control_plane.store.values import Answer
from skerry.fleet.cordon import Cordon
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.names import full_name
from skerry.plumbing.errors import Exhausted

CORDONS_MAX = 10_000


def set_cordon(
    session: Session,
    write: WriteContext,
    domain: FailureDomain,
    name: str,
    cordoned: bool,
    request_id: str,
) -> bool:
    """Cordon a domain or end its cordon; return whether that was new.

    The domain need not have reported: a cloud can be closed before its first plane joins.
    """
    check_epoch(session, write.epoch)
    digest = digest_of("cordon", domain.value, name, str(cordoned))
    if (earlier := earlier_answer(session, write, request_id, digest)) is not None:
        return bool(earlier.changed)
    held = _find(session, domain, name)
    changed = (held is not None) != cordoned
    keep_answer(session, write, request_id, digest, Answer(changed=changed))
    if not changed:
        return False
    table = tables.cordons
    if cordoned:
        if len(session.execute(select(table.c.name).limit(CORDONS_MAX)).all()) >= CORDONS_MAX:
            raise Exhausted(f"{CORDONS_MAX} domains are cordoned, as many as are kept")
        values = {"domain": domain.value, "name": name, "actor": write.actor}
        session.execute(insert(table).values(**values, reason=write.reason, since=write.now))
    else:
        session.execute(delete(table).where(table.c.domain == domain.value, table.c.name == name))
    kind = "domain.cordoned" if cordoned else "domain.uncordoned"
    effect = Effect(before={"cordoned": not cordoned}, after={"cordoned": cordoned})
    told = write.reason or ("takes nothing new" if cordoned else "takes replicas again")
    append_change(session, write, kind, _subject(write, domain, name), told, effect)
    return True


def list_cordons(session: Session) -> tuple[Cordon, ...]:
    """Return every cordon, by domain and name."""
    rows = session.execute(select(tables.cordons)).all()
    found = (
        Cordon(
            domain=FailureDomain(row.domain),
            name=row.name,
            actor=row.actor,
            reason=row.reason,
            since=row.since,
        )
        for row in rows
    )
    return tuple(sorted(found, key=lambda cordon: (cordon.domain.value, cordon.name)))


def _find(session: Session, domain: FailureDomain, name: str) -> str | None:
    table = tables.cordons
    query = select(table.c.name).where(table.c.domain == domain.value, table.c.name == name)
    return session.execute(query.with_for_update()).scalar_one_or_none()


def _subject(write: WriteContext, domain: FailureDomain, name: str) -> str:
    return full_name(write.project, f"{domain.value}s", name)
