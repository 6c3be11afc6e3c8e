"""VerifyChanges and ListChangeRecords over a real server: pieces, pages, faults as answers."""

import hashlib
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from control_plane.api import auditing
from control_plane.api.pagination import token_of
from control_plane.store import audit, tables
from control_plane.store.changes import Effect, append_change, forget_changes
from control_plane.store.leadership import WriteContext
from skerry.api.operator.v1 import operator_service_pb2 as pb
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"


def record(session: Session, write: WriteContext, count: int) -> None:
    for number in range(count):
        effect = Effect(after={"count": number, "share": 0.1})
        append_change(session, write, "test.made", f"things/{number}", "made", effect)


@pytest.fixture
async def logged(operator: Operator) -> Operator:
    """The API over a log of ten changes."""
    await operator.database.run(record, operator.write(), 9)
    return operator


async def pages(call: Any, request: Any) -> list[Any]:
    found = []
    while True:
        found.append(await call(request))
        if not found[-1].next_page_token:
            return found
        request.page_token = found[-1].next_page_token


async def refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(request)
    return refused.value.code(), refused.value.details() or ""


async def test_a_sound_log_is_verified_in_pieces(
    logged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "READ_AT_ONCE", 4)
    monkeypatch.setattr(audit, "VERIFIED_AT_ONCE_MAX", 4)
    told = await pages(logged.stub.VerifyChanges, pb.VerifyChangesRequest(parent=PARENT))
    assert [one.sequence for one in told] == [4, 8, 10]
    assert [one.checked_count for one in told] == [4, 8, 10]
    last = told[-1]
    assert (last.fault, last.newest_sequence, last.unprotected_count) == ("", 10, 0)
    again = pb.VerifyChangesRequest(
        parent=PARENT, expected_sequence=10, expected_digest=last.digest
    )
    assert (await pages(logged.stub.VerifyChanges, again))[-1].fault == ""


async def test_what_is_wrong_with_the_log_is_an_answer(logged: Operator) -> None:
    def alter(session: Session) -> None:
        table = tables.changes
        session.execute(update(table).where(table.c.sequence == 3).values(actor="user:mallory"))

    request = pb.VerifyChangesRequest(parent=PARENT)
    noted = (await logged.stub.VerifyChanges(request)).digest
    await logged.database.run(alter)
    told = await logged.stub.VerifyChanges(request)
    assert (told.sequence, told.next_page_token) == (3, "")
    assert "change 3 was altered" in told.fault
    request = pb.VerifyChangesRequest(parent=PARENT, expected_sequence=2, expected_digest=noted)
    told = await logged.stub.VerifyChanges(request)
    assert "change 2 has another digest than was noted" in told.fault


async def test_records_are_what_digests_are_of(
    logged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pb.ListChangeRecordsRequest(parent=PARENT, page_size=4)
    told = await pages(logged.stub.ListChangeRecords, request)
    records = [record for page in told for record in page.records]
    assert [one.sequence for one in records] == list(range(1, 11))
    previous = b""
    for one in records:
        assert bytes.fromhex(one.previous_digest) == previous
        previous = hashlib.sha256(previous + one.content.encode()).digest()
        assert one.digest == previous.hex()
    monkeypatch.setattr(auditing, "RECORDS_BYTES_MAX", 1)
    request = pb.ListChangeRecordsRequest(parent=PARENT, from_sequence=8)
    told = await pages(logged.stub.ListChangeRecords, request)
    assert [len(page.records) for page in told] == [1, 1, 0]


async def test_records_since_a_time_come_in_pages_too(logged: Operator) -> None:
    later = WriteContext(
        epoch=logged.write().epoch, actor="user:ada", now=START + timedelta(days=1)
    )
    await logged.database.run(record, later, 5)
    request = pb.ListChangeRecordsRequest(parent=PARENT, page_size=2)
    request.from_time.FromDatetime(START + timedelta(hours=1))
    told = await pages(logged.stub.ListChangeRecords, request)
    assert [one.sequence for page in told for one in page.records] == [11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"expected_sequence": 4}, "expected_digest"),
        ({"expected_digest": "ab" * 32, "expected_sequence": -4}, "expected_digest"),
        ({"expected_digest": "zz" * 32, "expected_sequence": 4}, "expected_digest"),
        ({"page_token": "forged"}, "page_token"),
        ({"page_token": token_of("VerifyChanges projects/default ", "1 2")}, "page_token"),
        (
            {"page_token": token_of("VerifyChanges projects/default ", f"{'9' * 19} 0 0 0 ")},
            "page_token",
        ),
    ],
)
async def test_what_nobody_noted_is_refused(
    asked: dict[str, Any], field: str, logged: Operator
) -> None:
    request = pb.VerifyChangesRequest(parent=PARENT, **asked)
    code, details = await refusal(logged.stub.VerifyChanges, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in details


async def test_what_was_forgotten_is_told_by_its_number(logged: Operator) -> None:
    await logged.database.run(forget_changes, logged.write(), 6)
    told = await logged.stub.VerifyChanges(pb.VerifyChangesRequest(parent=PARENT))
    assert (told.fault, told.compacted_to, told.checked_count) == ("", 6, 5)
    for call, request in (
        (
            logged.stub.VerifyChanges,
            pb.VerifyChangesRequest(parent=PARENT, expected_sequence=3, expected_digest="ab" * 32),
        ),
        (
            logged.stub.ListChangeRecords,
            pb.ListChangeRecordsRequest(parent=PARENT, from_sequence=3),
        ),
        (
            logged.stub.ListChangeRecords,
            pb.ListChangeRecordsRequest(parent=PARENT, from_sequence=99),
        ),
    ):
        code, _ = await refusal(call, request)
        assert code is grpc.StatusCode.OUT_OF_RANGE
