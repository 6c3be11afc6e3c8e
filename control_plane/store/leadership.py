"""Leadership: the fenced right to write, taken by raising the epoch above every earlier one.

A term says until when nobody else may take it, by the database's clock. The fence is the epoch
alone: who was paused past its term, and renews or writes after another took over, has no effect.
Locks are taken in one order everywhere: the term, the epoch, the counter of changes; who ends its
own epoch, after a long transaction, does not wait for the term (`end_epoch`).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.database_clock import clock, gives_way
from control_plane.store.fencing import WriteContext, check_epoch

__all__ = [
    "Addresses",
    "Leadership",
    "WriteContext",
    "acquire",
    "check_epoch",
    "current_leadership",
    "end_epoch",
    "give_up",
    "hold_epoch",
    "hold_leadership",
    "leading_epoch",
    "renew",
    "take_leadership",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a control plane answers, each as `host:port`: to operators, planes, and over HTTP."""

    operator: str = ""
    link: str = ""
    http: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """Who leads by the database, and for how many seconds yet; None: it was given up, or never."""

    epoch: int
    holder: str
    addresses: Addresses
    seconds_left: float | None


def take_leadership(
    session: Session, holder: str, now: datetime, addresses: Addresses | None = None
) -> int:
    """Depose whoever led, whatever its term, and return the new epoch, one above every earlier one.

    For a database that only one control plane can have open, and for tests.
    """
    # The term first: whoever acquires takes both rows in this order.
    term = tables.leadership_terms
    session.execute(update(term).values(expires_at=None, **_columns(addresses or Addresses())))
    return _raise_epoch(session, holder, now)


def acquire(
    session: Session, holder: str, addresses: Addresses, now: datetime, *, seconds: float
) -> int | None:
    """Return the new epoch, ours for `seconds`; None while another's term lasts."""
    term = tables.leadership_terms
    is_free = or_(term.c.expires_at.is_(None), term.c.expires_at <= clock(session))
    taken = update(term).where(is_free)
    taken = taken.values(expires_at=clock(session, seconds), **_columns(addresses))
    if session.execute(taken.returning(term.c.epoch, gives_way(session))).one_or_none() is None:
        return None
    return _raise_epoch(session, holder, now)


def renew(session: Session, epoch: int, *, seconds: float) -> int:
    """Have the epoch's term last `seconds` from now, and return the epoch that leads.

    Another one than ours: nothing was renewed, and nothing will be.
    """
    leading = leading_epoch(session)
    if leading == epoch:
        term = tables.leadership_terms
        ours = update(term).where(term.c.epoch == epoch)
        renewed = ours.values(expires_at=clock(session, seconds))
        row = session.execute(renewed.returning(term.c.epoch, gives_way(session))).one_or_none()
        if row is None:  # taken between the two statements
            leading = leading_epoch(session)
    return leading


def give_up(session: Session, epoch: int, holder: str, now: datetime) -> bool:
    """End the epoch's term now, for the next one to lead at once; False when it is not ours."""
    term = tables.leadership_terms
    ours = (term.c.epoch == epoch) & term.c.expires_at.is_not(None)
    ended = update(term).where(ours).values(expires_at=None)
    if session.execute(ended.returning(term.c.epoch, gives_way(session))).one_or_none() is None:
        return False
    write = WriteContext(epoch=epoch, actor=f"control-plane:{holder}", now=now)
    effect = Effect(before={"epoch": epoch, "holder": holder})
    append_change(session, write, "leadership.given-up", _subject(holder), f"epoch {epoch}", effect)
    return True


def hold_leadership(session: Session) -> int:
    """Have nobody acquire or write until this transaction ends; return the epoch that leads."""
    session.execute(select(tables.leadership_terms.c.epoch).with_for_update())
    return int(session.execute(select(tables.leadership.c.epoch).with_for_update()).scalar_one())


def hold_epoch(session: Session, epoch: int) -> None:
    """Keep the epoch for ourselves alone until this transaction ends, which may then end it.

    Before anything else: of two that share the lock first neither could have it alone later.
    Raises StaleGeneration like `check_epoch`.
    """
    session.execute(select(tables.leadership.c.epoch, gives_way(session)).with_for_update())
    check_epoch(session, epoch)


def end_epoch(session: Session, next_above: int) -> None:
    """Depose ourselves, who hold the epoch: the next one is above `next_above`."""
    row, term = tables.leadership, tables.leadership_terms
    # Whoever has the term's row takes the term over, and waits for our epoch's; or renews ours,
    # which ends by itself then. Neither is waited for.
    mine = select(term.c.id).with_for_update(skip_locked=True).scalar_subquery()
    session.execute(update(term).where(term.c.id.in_(mine)).values(expires_at=None))
    session.execute(update(row).values(epoch=next_above))


def leading_epoch(session: Session) -> int:
    """Return the epoch that leads, 0 before the first leader."""
    return int(session.execute(select(tables.leadership.c.epoch)).scalar_one())


def current_leadership(session: Session) -> Leadership:
    """Return who leads, and how long by the database's clock."""
    term, row = tables.leadership_terms, tables.leadership
    told = (term.c.operator_address, term.c.link_address, term.c.http_address)
    query = select(
        row.c.epoch,
        row.c.holder,
        term.c.epoch.label("term_epoch"),
        term.c.expires_at,
        clock(session).label("now"),
        *told,
    )
    found = session.execute(query.where(row.c.id == term.c.id)).one()
    # The release before raises the epoch alone: that leader has no term, nor addresses.
    has_term = found.epoch == found.term_epoch
    ends = found.expires_at if has_term else None
    return Leadership(
        epoch=found.epoch,
        holder=found.holder,
        addresses=(
            Addresses(
                operator=found.operator_address,
                link=found.link_address,
                http=found.http_address,
            )
            if has_term
            else Addresses()
        ),
        seconds_left=None if ends is None else (ends - found.now).total_seconds(),
    )


def _raise_epoch(session: Session, holder: str, now: datetime) -> int:
    row, term = tables.leadership, tables.leadership_terms
    taken = update(row).values(epoch=row.c.epoch + 1, holder=holder, taken_at=now)
    # Waits for the transactions of the leader before: each shares this row's lock to its end.
    epoch = int(session.execute(taken.returning(row.c.epoch)).scalar_one())
    session.execute(update(term).values(epoch=epoch))
    write = WriteContext(epoch=epoch, actor=f"control-plane:{holder}", now=now)
    effect = Effect(before={"epoch": epoch - 1}, after={"epoch": epoch, "holder": holder})
    append_change(session, write, "leadership.taken", _subject(holder), f"epoch {epoch}", effect)
    return epoch


def _subject(holder: str) -> str:
    return f"control-planes/{holder}"


def _columns(addresses: Addresses) -> dict[str, str]:
    return {
        "operator_address": addresses.operator,
        "link_address": addresses.link,
        "http_address": addresses.http,
    }
