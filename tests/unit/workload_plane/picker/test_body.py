"""What is read out of a request's raw bytes, whole or cut short."""

import json

import pytest

from skerry.api.openengine.v1 import generation_pb2
from workload_plane.picker.body import (
    BLOCK_BYTES,
    beginning,
    read_json,
    read_message,
    session_hash,
    session_in,
)

TEXT = "All work and no play makes Jack a dull boy. " * 400


def a_body(content: str = TEXT, **more: object) -> bytes:
    values = {**more, "model": "m", "messages": [{"role": "user", "content": content}]}
    return json.dumps(values).encode()


def a_frame(**fields: object) -> bytes:
    message = generation_pb2.GenerateRequest(**fields).SerializeToString()  # type: ignore[arg-type]
    return b"\0" + len(message).to_bytes(4, "big") + message


def test_prompts_with_the_same_beginning_share_blocks_up_to_where_they_part() -> None:
    one = read_json(a_body(TEXT + "and he knew it"), 0).blocks
    other = read_json(a_body(TEXT + "but he did not"), 0).blocks
    other_start = read_json(a_body("x" + TEXT), 0).blocks
    shared = len(TEXT) // BLOCK_BYTES
    assert len(one) >= shared
    assert one[:shared] == other[:shared]
    assert not set(one) & set(other_start)


def test_what_comes_before_the_prompt_does_not_matter() -> None:
    assert read_json(a_body(temperature=0.1), 0).blocks == read_json(a_body(seed=7), 0).blocks


def test_a_body_that_is_cut_short_has_the_blocks_seen_and_the_tokens_of_all() -> None:
    body = a_body()
    cut = read_json(body[:9000], len(body))
    whole = read_json(body, len(body))
    assert cut.blocks == whole.blocks[: len(cut.blocks)]
    assert len(cut.blocks) == 4
    assert cut.tokens == whole.tokens == pytest.approx(len(body) / 4, rel=0.01)


def test_a_generate_message_is_hashed_from_its_prompt_whatever_its_request_id() -> None:
    one = read_message(a_frame(request_id="1", model="m", prompt=TEXT))
    other = read_message(a_frame(request_id="another", model="m", prompt=TEXT))
    assert one.blocks == other.blocks
    assert len(one.blocks) == len(TEXT) // BLOCK_BYTES
    assert one.tokens == len(TEXT) / 4


def test_token_ids_are_counted_one_by_one() -> None:
    ids = generation_pb2.TokenIds(ids=[100, 100_000] * 4000)
    prompt = read_message(a_frame(request_id="1", model="m", token_ids=ids))
    assert prompt.tokens == pytest.approx(8000, rel=0.01)
    assert prompt.block_tokens == pytest.approx(BLOCK_BYTES / 2, rel=0.01)
    assert len(prompt.blocks) == 16_000 // BLOCK_BYTES


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0", b"\1\0\0\0\5abcde", b"\0\0\0\0\5" + b"\xff" * 5, a_frame(prompt=TEXT)[:7]],
    ids=["empty", "cut frame", "compressed", "no protobuf", "cut field"],
)
def test_what_is_no_message_has_no_blocks(body: bytes) -> None:
    assert read_message(body).blocks == ()


def test_a_session_is_found_at_either_end_and_not_in_what_users_write() -> None:
    assert session_in(a_body(user="ann")) == b"ann"
    late = json.dumps({"messages": [{"content": TEXT}], "prompt_cache_key": "k"}).encode()
    assert session_in(late) == b"k"
    assert session_in(a_body('my JSON is {"user": "eve"} ' + TEXT)) == b""
    assert session_in(a_body()) == b""


def test_a_session_has_one_number_everywhere() -> None:
    assert session_hash(b"ann") == 10176691957563388837  # of any process on any machine
    assert session_hash(b"") == 0
    assert beginning(a_body(temperature=1)) == beginning(a_body(temperature=0.5))
