"""The change log for whoever audits it: records as they are chained, and the chain verified.

`operator_service.py` answers ListChangeRecords and VerifyChanges with it.
"""

import re
from datetime import UTC

from control_plane.api import validation
from control_plane.api.pagination import after_of, sequence_after, size_of, token_of
from control_plane.api.times import moment_of
from control_plane.instruments import AUDITED
from control_plane.store.audit import Piece, list_records, verify_piece
from control_plane.store.engine import Database
from skerry.api.operator.v1 import change_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.change_chain import InvalidNote, Link, Noted, Verified, read_noted
from skerry.plumbing.errors import InvalidInput

RECORDS_BYTES_MAX = 1 << 20  # of one answer, and one record more
# A place in the log, as `_told` writes it.
_TOLD = re.compile(r"(\d{1,18}) (\d{1,18}) (\d{1,18}) (\d{1,18}) ((?:[0-9a-f]{64})?)", re.ASCII)


async def records_page(
    database: Database, request: pb.ListChangeRecordsRequest
) -> pb.ListChangeRecordsResponse:
    """Return the page of records that a request asks for, oldest first."""
    above = validation.check_sequence(request.from_sequence)
    since = moment_of(request, "from_time") if request.HasField("from_time") else None
    size = size_of(request.page_size)
    listing = f"ListChangeRecords {request.parent} {above} {since and since.astimezone(UTC)}"
    after = sequence_after(listing, request.page_token)
    if after is not None:
        above, since = after, None
    found = await database.run_read(list_records, above, since, size, RECORDS_BYTES_MAX)
    more = len(found) == size or sum(len(one.content) for one in found) > RECORDS_BYTES_MAX
    token = token_of(listing, str(found[-1].sequence)) if more else ""
    records = [_record_to_proto(one) for one in found]
    return pb.ListChangeRecordsResponse(records=records, next_page_token=token)


async def verified_piece(
    database: Database, request: pb.VerifyChangesRequest
) -> pb.VerifyChangesResponse:
    """Verify the piece of the log that a request asks for."""
    noted = _noted(request)
    listing = f"VerifyChanges {request.parent} {noted or ''}"
    before = _before(after_of(listing, request.page_token))
    piece = await database.run_read(verify_piece, before, noted)
    AUDITED.labels("broken" if piece.found.fault else "sound").inc()
    return _piece_to_proto(piece, "" if piece.is_whole else token_of(listing, _told(piece.found)))


def _noted(request: pb.VerifyChangesRequest) -> Noted | None:
    if not request.expected_sequence and not request.expected_digest:
        return None
    try:
        return read_noted(f"{request.expected_sequence}:{request.expected_digest}")
    except InvalidNote as fault:
        raise InvalidInput(f"expected_digest: {fault}", field="expected_digest") from None


def _told(found: Verified) -> str:
    """Return where verifying goes on, as a page's token has it."""
    digest = found.digest.hex() if found.digest else ""
    numbers = (found.sequence, found.checked, found.unprotected, found.last_unprotected)
    return f"{' '.join(map(str, numbers))} {digest}"


def _before(told: str | None) -> Verified | None:
    """Return what was verified before; None: nothing yet."""
    if told is None:
        return None
    parts = _TOLD.fullmatch(told)
    if parts is None:
        raise InvalidInput(
            "page_token is not one that this gave; start again without it", field="page_token"
        )
    sequence, checked, unprotected, last = map(int, parts.groups()[:-1])
    return Verified(
        sequence=sequence,
        digest=bytes.fromhex(parts.groups()[-1]) or None,
        checked=checked,
        unprotected=unprotected,
        last_unprotected=last,
    )


def _record_to_proto(link: Link) -> change_pb2.ChangeRecord:
    return change_pb2.ChangeRecord(
        sequence=link.sequence,
        content=link.content,
        previous_digest=link.previous.hex() if link.previous else "",
        digest=link.digest.hex() if link.digest else "",
    )


def _piece_to_proto(piece: Piece, token: str) -> pb.VerifyChangesResponse:
    found = piece.found
    return pb.VerifyChangesResponse(
        sequence=found.sequence,
        digest=found.digest.hex() if found.digest else "",
        checked_count=found.checked,
        unprotected_count=found.unprotected,
        unprotected_sequence=found.last_unprotected,
        fault=found.fault,
        newest_sequence=piece.newest,
        compacted_to=piece.compacted_to,
        next_page_token=token,
    )
