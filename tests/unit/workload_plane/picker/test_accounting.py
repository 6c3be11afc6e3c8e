"""Reading Envoy's log out of a stream of bytes."""

import pytest

from tests.fakes.clock import FakeClock
from workload_plane.picker.accounting import AccessLog, find_lines
from workload_plane.picker.facts import DeploymentTold, Entry, Facts, ReplicaTold
from workload_plane.picker.picker import Picker

LINE = b"<7|127.0.0.1:8000|200|-|12|345|678|910|1|DownstreamEnd>"
FRAMED = b"\x92\xa6skerry\x91\x92\xcef\x00\x00\x00\x81\xa4line\xd9\x37" + LINE


def test_a_line_says_what_became_of_a_request() -> None:
    assert find_lines(FRAMED) == [
        Entry(7, "127.0.0.1:8000", 200, "", 12, 345, 678, 910, 1, ended=True)
    ]


@pytest.mark.parametrize(("told", "status"), [(b"8", 8), (b"-", None)])
def test_a_line_of_grpc_says_its_status(told: bytes, status: int | None) -> None:
    (entry,) = find_lines(LINE[:-1] + b"|" + told + b">")
    assert (entry.ended, entry.grpc_status) == (True, status)


def test_a_request_under_way_has_no_end_and_perhaps_no_host() -> None:
    line = b"<7|-|0|-|-|2000|678|0|0|DownstreamPeriodic>"
    assert find_lines(line) == [Entry(7, "", 0, "", None, 2000, 678, 0, 0, ended=False)]


def test_a_line_about_one_attempt_tells_of_neither_the_requests_end_nor_its_course() -> None:
    (entry,) = find_lines(b"<7|127.0.0.1:8000|0|UC|-|3|678|0|1|UpstreamEnd|-|->")
    assert (entry.is_attempt, entry.ended, entry.flags) == (True, False, "UC")


@pytest.mark.parametrize(
    "line",
    [
        b"<x|127.0.0.1:8000|200|-|12|345|678|910|1|DownstreamEnd>",
        b"<7|127.0.0.1:8000|200|-|12|345|678|910|1>",
        b"<7|<|200|-|12|345|678|910|1|DownstreamEnd>",
        b"",
    ],
)
def test_what_is_no_line_of_ours_is_passed_over(line: bytes) -> None:
    assert find_lines(line) == []


def test_lines_are_found_however_the_stream_is_cut() -> None:
    stream = b"".join(FRAMED.replace(b"<7|", b"<%d|" % number) for number in range(1, 21))
    for size in (1, 7, 64, 1000):
        picker = Picker()
        picker.update([DeploymentTold("d", replicas=(ReplicaTold("a", "x:1", "x:2"),))], 0.0)
        for _ in range(20):
            picker.pick(Facts("d"), 0.0)
        log = AccessLog(picker, FakeClock(), lambda: None)
        for at in range(0, len(stream), size):
            log.data_received(stream[at : at + size])
        assert (picker.totals.matched, picker.open_tickets) == (20, 0)
