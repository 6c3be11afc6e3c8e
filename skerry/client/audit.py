"""The audit of the change log: calls and rows; `operator_methods` makes methods of the clients."""

from dataclasses import dataclass
from datetime import datetime

from skerry.api.operator.v1 import change_pb2
from skerry.api.operator.v1 import operator_service_pb2 as messages
from skerry.client.operator_calls import PAGE_ROWS, WRITE_SECONDS_MAX, Call, Page, page_call
from skerry.fleet.change_chain import Link, Noted
from skerry.plumbing.errors import Corrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRow:
    """How far the control plane found its change log sound; digests in hex.

    `fault` says what is wrong with change `sequence`; empty while nothing is. Of the `checked`
    changes `unprotected` have no digest, the newest of them `last_unprotected`. Changes up to
    `compacted_to` were forgotten. Once `sequence` is `newest`, all is checked.
    """

    sequence: int
    digest: str
    checked: int
    unprotected: int
    last_unprotected: int
    fault: str
    newest: int
    compacted_to: int


def verify_changes(project: str, token: str, noted: Noted | None) -> Call[Page[VerifiedRow]]:
    """Return the call that verifies the next piece of the log: one row, and where it goes on."""
    request = messages.VerifyChangesRequest(parent=f"projects/{project}", page_token=token)
    if noted is not None:
        request.expected_sequence = noted.sequence
        request.expected_digest = noted.digest.hex()

    def read(message: messages.VerifyChangesResponse) -> Page[VerifiedRow]:
        row = VerifiedRow(
            sequence=message.sequence,
            digest=message.digest,
            checked=message.checked_count,
            unprotected=message.unprotected_count,
            last_unprotected=message.unprotected_sequence,
            fault=message.fault,
            newest=message.newest_sequence,
            compacted_to=message.compacted_to,
        )
        return Page(rows=(row,), next_token=message.next_page_token)

    return Call(method="VerifyChanges", request=request, read=read, seconds_max=WRITE_SECONDS_MAX)


def list_change_records(
    project: str, token: str, sequence: int, since: datetime | None
) -> Call[Page[Link]]:
    """Return the call for a page of changes as they are chained, oldest first."""
    request = messages.ListChangeRecordsRequest(
        parent=f"projects/{project}",
        page_size=PAGE_ROWS,
        page_token=token,
        from_sequence=sequence,
    )
    if since is not None:
        request.from_time.FromDatetime(since)
    return page_call("ListChangeRecords", request, "records", _link)


def _link(message: change_pb2.ChangeRecord) -> Link:
    try:
        return Link(
            sequence=message.sequence,
            content=message.content,
            previous=bytes.fromhex(message.previous_digest) or None,
            digest=bytes.fromhex(message.digest) or None,
        )
    except ValueError:
        raise Corrupt(f"record {message.sequence} came with a digest that is not hex") from None
