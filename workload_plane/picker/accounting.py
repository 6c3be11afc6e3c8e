"""What became of each request: Envoy's access log, joined to the picker's tickets.

Envoy's Fluentd logger writes small batches to a Unix socket, one line of ours in each record. The
lines are found by their own shape; the framing around them (MessagePack) is not looked at. That
takes a sixth of the time of the gRPC access log service: docs/decisions/0014.
"""

import asyncio
import re
from collections.abc import Callable

from skerry.plumbing.clock import Clock
from workload_plane.picker.answer_lengths import Usage
from workload_plane.picker.facts import Entry
from workload_plane.picker.picker import Picker

_LINE = re.compile(
    # A gateway of an older release says nothing of what an answer used.
    rb"(?:\[(-|(?:-|\d{1,12})\.(?:-|\d{1,12})\.\d{1,12})\])?"
    rb"<(\d{1,20})\|([^|<>]{0,120})\|(\d{1,3})\|([A-Z,-]{0,60})\|(-|\d{1,12})\|(-|\d{1,12})"
    # A gateway that was told its configuration by an older plane says no gRPC status, or not
    # whether the replica was lost.
    rb"\|(\d{1,15})\|(\d{1,15})\|(\d{1,4})\|([A-Za-z]{1,60})(?:\|(-|\d{1,3}))?(?:\|(-|1))?>"
)
_ENDED, _ATTEMPT_ENDED = b"DownstreamEnd", b"UpstreamEnd"
# The longest line with what frames it; more without a line in it is not our log.
_REST_BYTES_MAX = 4096


class AccessLog(asyncio.Protocol):
    """One worker thread of Envoy that sends its log."""

    def __init__(self, picker: Picker, clock: Clock, wake: Callable[[], None]) -> None:
        """Tell `picker` of every line; `wake` whoever waits for requests to end."""
        self._wake = wake
        self._picker = picker
        self._now = clock.monotonic
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Take in what came: whole lines now, the beginning of one later."""
        data = self._rest + data if self._rest else data
        now, note, end = self._now(), self._picker.note, 0
        for found in _LINE.finditer(data):
            note(parse(found), now)
            end = found.end()
        self._rest = data[max(end, len(data) - _REST_BYTES_MAX) :]
        if end:
            self._wake()


def parse(line: "re.Match[bytes]") -> Entry:
    """Return what a line says."""
    usage, ticket, address, status, flags, first, duration, received, sent, *last = line.groups()
    attempts, kind, grpc_status, lost = last
    return Entry(
        int(ticket),
        "" if address == b"-" else address.decode("latin-1"),
        int(status),
        "" if flags == b"-" else flags.decode("latin-1"),
        None if first == b"-" else int(first),
        0 if duration == b"-" else int(duration),
        int(received),
        int(sent),
        int(attempts),
        kind == _ENDED,
        int(grpc_status) if grpc_status and grpc_status != b"-" else None,
        lost == b"1",
        kind == _ATTEMPT_ENDED,
        _usage(usage),
    )


def _usage(told: bytes | None) -> Usage | None:
    if told is None or told == b"-":
        return None
    prompt, answer, events = (None if one == b"-" else int(one) for one in told.split(b"."))
    assert events is not None, "the line's form says so"
    return Usage(prompt, answer, events)


def find_lines(data: bytes) -> list[Entry]:
    """Return the entries of all whole lines."""
    return [parse(found) for found in _LINE.finditer(data)]
