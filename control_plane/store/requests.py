"""Idempotency: the answer to a request_id, so that a repeated call is one effect."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext
from control_plane.store.values import Answer
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.plumbing.errors import InvalidInput

# A client that repeats a call does so within minutes; a day also covers a person who comes back.
ANSWERS_KEPT = timedelta(days=1)


def digest_of(*parts: str) -> str:
    """Return a digest that is equal only for the same call with the same body."""
    return hashlib.sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


def told_in(write: WriteContext, text: str) -> str:
    """Return what a call says with the project that it says it in: elsewhere it is another call.

    Of `default` it is the text itself, as releases before the projects have kept it.
    """
    return text if write.project == DEFAULT_PROJECT else f"projects/{write.project} {text}"


def earlier_answer(
    session: Session, write: WriteContext, request_id: str, digest: str
) -> Answer | None:
    """Return what the actor's same request was answered; InvalidInput when its body differed."""
    if not request_id:
        return None
    table = tables.requests
    query = select(table.c.digest, table.c.answer).where(
        table.c.actor == write.actor, table.c.request_id == request_id
    )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    if row.digest != digest:
        raise InvalidInput(
            f"request_id {request_id!r} was used for a different call; use a new one",
            field="request_id",
        )
    answer: Answer = row.answer
    return answer


def keep_answer(
    session: Session, write: WriteContext, request_id: str, digest: str, answer: Answer
) -> None:
    """Remember the answer of a request, and forget those older than a day."""
    if not request_id:
        return
    table = tables.requests
    session.execute(delete(table).where(table.c.created_at < write.now - ANSWERS_KEPT))
    session.execute(
        insert(table).values(
            actor=write.actor,
            request_id=request_id,
            digest=digest,
            answer=answer,
            created_at=write.now,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call whose answer cannot be made again: what was asked, as text, and the answer's bytes.

    `kind` tells calls of one method from those of others.
    """

    request_id: str
    kind: str
    body: str
    answer: bytes = b""


def answered(session: Session, write: WriteContext, asked: Asked) -> bytes | None:
    """Return what the same call was answered before; InvalidInput where its body differed."""
    digest = digest_of(asked.kind, told_in(write, asked.body))
    earlier = earlier_answer(session, write, asked.request_id, digest)
    return None if earlier is None else base64.b64decode(earlier.message or "")


def keep_told(session: Session, write: WriteContext, asked: Asked) -> None:
    """Remember the answer of a call that was not answered before."""
    kept = Answer(message=base64.b64encode(asked.answer).decode())
    digest = digest_of(asked.kind, told_in(write, asked.body))
    keep_answer(session, write, asked.request_id, digest, kept)
