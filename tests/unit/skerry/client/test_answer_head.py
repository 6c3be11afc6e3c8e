"""What headers say of who answered; nothing they say can hurt."""

import pytest

from skerry.client.answer_head import read_head, read_retry_after, read_timing
from skerry.client.gateways import Head


def test_server_timing_names_plane_replica_and_queue() -> None:
    headers = {"server-timing": 'plane;desc="eu-1", replica;desc=chat-1;dur=3, queue;dur=250'}
    assert read_head(headers, "id") == Head(
        plane="eu-1", replica="chat-1", queue_seconds=0.25, request_id="id"
    )


def test_a_gateway_that_is_not_ours_tells_nothing() -> None:
    assert read_head({"server-timing": "cdn-cache;desc=HIT"}, "id") == Head(request_id="id")


@pytest.mark.parametrize("text", ["", ";;;", "a;b", 'x;desc="', "queue;dur=fast", "é" * 5_000])
def test_a_malformed_header_is_left_out(text: str) -> None:
    assert read_head({"server-timing": text}, "id").queue_seconds is None


def test_metrics_are_told_apart_whatever_is_quoted() -> None:
    found = read_timing('a;desc="x, y; z";dur=1, b')
    assert found == {"a": {"desc": "x, y; z", "dur": "1"}, "b": {}}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("1e9", 3_600.0), ("", None), ("-1", None), ("nan", None), ("soon", None)],
)
def test_retry_after_is_seconds_within_reason(text: str, seconds: float | None) -> None:
    assert read_retry_after({"retry-after": text}) == seconds
