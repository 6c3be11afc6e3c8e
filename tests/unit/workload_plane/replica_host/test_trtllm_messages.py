"""The few fields that the host reads of messages that it otherwise passes as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.trtllm_engine import a_request, messages
from workload_plane.replica_host.trtllm_messages import (
    Complete,
    chunk_tokens,
    complete_of,
    is_healthy,
    request_id,
)

pytestmark = pytest.mark.integration  # the messages are compiled by a process


def encoded(kind: str, **fields: object) -> bytes:
    return bytes(messages()[kind](**fields).SerializeToString())


@given(ids=st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_the_tokens_of_a_chunk_are_counted_whatever_their_size(ids: list[int]) -> None:
    chunk = messages()["GenerateStreamChunk"](token_ids=ids, completion_tokens=len(ids))
    message = encoded("GenerateResponse", request_id="r", chunk=chunk)
    assert (chunk_tokens(message), complete_of(message)) == (len(ids), None)


def test_the_end_of_a_sequence_tells_what_the_engine_counted() -> None:
    complete = messages()["GenerateComplete"](
        output_token_ids=[1, 128, 70_000],
        sequence_index=1,
        finish_reason="stop",
        prompt_tokens=9,
        completion_tokens=3,
        cached_tokens=4,
    )
    assert complete_of(encoded("GenerateResponse", complete=complete)) == Complete(
        sequence=1,
        finish_reason=b"stop",
        token_ids=3,
        prompt_tokens=9,
        completion_tokens=3,
        cached_tokens=4,
    )


def test_ids_and_health_are_read() -> None:
    assert request_id(a_request("mine", 3).SerializeToString()) == "mine"
    assert request_id(a_request("", 3).SerializeToString()) == ""
    assert is_healthy(encoded("HealthCheckResponse", status="OK"))
    assert not is_healthy(encoded("HealthCheckResponse", status="Executor is unhealthy"))
    assert not is_healthy(b"")


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x7f", b"\x12\x01\xff", b"\x1a\x02\x08"])
def test_what_cannot_be_read_tells_nothing(message: bytes) -> None:
    assert chunk_tokens(message) == 0
    assert request_id(message) == ""
    found = complete_of(message)
    assert found is None or found.completion_tokens == 0


@given(message=st.binary(max_size=60))
def test_no_bytes_make_it_fail(message: bytes) -> None:
    chunk_tokens(message)
    complete_of(message)
    request_id(message)
    is_healthy(message)
