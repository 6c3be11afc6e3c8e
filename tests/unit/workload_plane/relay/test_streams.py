"""Events out of bytes, stop texts at a seam, counts in chunks, what is held and known."""

import json
from pathlib import Path

import pytest

from skerry.api.openengine.v1 import generation_pb2
from skerry.plumbing.errors import Corrupt
from skerry.wire.continuation.dialects import DIALECTS, dialect_of
from skerry.wire.continuation.generate import GenerateStream
from skerry.wire.continuation.openai_continuation import Close, LookUp, continue_openai
from skerry.wire.continuation.openai_request import Api, read_request
from skerry.wire.continuation.seam import SeamWatch, Sight
from tests.fakes.clock import FakeClock
from workload_plane.relay.known import KnownDeployments, parse_relay_file
from workload_plane.relay.memory import HeldBytes
from workload_plane.relay.openai_stream import TOLD_BYTES_MAX, OpenAiStream
from workload_plane.relay.sse import BlockSplitter, data_of
from workload_plane.replica_host.sse import EVENT_BYTES_MAX, OversizedEvent

CHAT = json.dumps({"stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
EVENTS = b'data: {"a": 1}\n\n: ping\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_are_whole_wherever_their_bytes_are_cut(size: int, end: bytes) -> None:
    splitter, data = BlockSplitter(), EVENTS.replace(b"\n", end)
    found = [b for at in range(0, len(data), size) for b in splitter.feed(data[at : at + size])]
    assert [data_of(block) for block in found] == [b'{"a": 1}', b"", b"[DONE]"]
    assert b"".join(found) == EVENTS


def test_half_an_event_is_nobodys() -> None:
    assert BlockSplitter().feed(b'data: {"a": 1}\n\ndata: {"b"') == [b'data: {"a": 1}\n\n']


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(OversizedEvent):
        BlockSplitter().feed(b"data: " + b"x" * (EVENT_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("told", "pieces", "sights"),
    [
        ("the en", ["d"], [Sight.MET]),
        ("the e", ["n", "d"], [Sight.MAY_BE, Sight.MET]),
        ("the e", ["n", "tity"], [Sight.MAY_BE, Sight.CLEAR]),
        ("the en", [" end"], [Sight.CLEAR]),  # the engine itself sees that one
        ("the end", ["s"], [Sight.CLEAR]),  # told whole: it did not stop whoever told it
        ("", ["end"], [Sight.CLEAR]),
    ],
)
def test_a_stop_text_is_seen_across_the_seam(
    told: str, pieces: list[str], sights: list[Sight]
) -> None:
    watch = SeamWatch(told, ["end", ""])
    assert [watch.look(piece) for piece in pieces] == sights


def test_an_event_like_another_is_understood_by_its_text_alone() -> None:
    stream = OpenAiStream(read_request(Api.CHAT, CHAT, DIALECTS["simulated"]))
    texts = ["one", " two", ' "three"', " fo\\ur", "", "fünf", "\n", " seven"]
    for text in texts:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        block = b"data: " + json.dumps({"id": "i", "choices": [choice]}).encode() + b"\n\n"
        assert stream.feed(block) == block
    assert stream.told.text == "".join(texts)
    assert stream.tokens == len([text for text in texts if text])
    assert stream.told_bytes == len("".join(texts).encode())


@pytest.mark.parametrize("text", ["a", "é", "語", "😀", "\ud83d"])
def test_what_is_kept_of_an_answer_is_counted_and_bounded_in_bytes(text: str) -> None:
    """A half of a surrogate pair is what an engine writes that cuts a letter in two."""
    stream = OpenAiStream(read_request(Api.CHAT, CHAT, DIALECTS["simulated"]))

    def tell(times: int) -> None:
        choice = {"index": 0, "delta": {"content": text * times}, "finish_reason": None}
        block = b"data: " + json.dumps({"id": "i", "choices": [choice]}).encode() + b"\n\n"
        assert stream.feed(block) == block

    size = len(text.encode("utf-8", "surrogatepass"))
    for _ in range(1000):  # more than are kept apart
        tell(1)
    assert (stream.told_bytes, stream.told.text) == (1000 * size, text * 1000)
    tell(TOLD_BYTES_MAX // size - 1000)
    assert not stream.told.too_long
    tell(1)
    assert (stream.told.too_long, stream.told_bytes) == (True, 0)


def test_a_text_that_looks_like_another_field_is_not_mistaken() -> None:
    stream = OpenAiStream(read_request(Api.CHAT, CHAT, DIALECTS["simulated"]))
    for model, text in (("m", "m"), ("x", "m"), ("m", "x"), ("m", "content")):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        chunk = {"model": model, "choices": [choice]}
        stream.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    assert stream.told.text == "mmxcontent"


@pytest.mark.parametrize("wants_usage", [False, True])
def test_counts_that_only_the_relay_asked_for_are_taken_out(wants_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    body = json.dumps(json.loads(CHAT) | options).encode()
    stream = OpenAiStream(read_request(Api.CHAT, body, dialect_of("vllm")))

    def told(tokens: int, **choice: object) -> bytes:
        usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
        choices = [{"index": 0, "finish_reason": None, **choice}] if choice else []
        return stream.feed(
            b"data: " + json.dumps({"choices": choices, "usage": usage}).encode() + b"\n\n"
        )

    # Three tokens in one event, as speculation has it.
    events = [told(3, delta={"content": "a b c"}), told(4, delta={}, finish_reason="stop"), told(4)]
    usages = [json.loads(event[6:]).get("usage", "none") for event in events if event]
    if wants_usage:
        assert usages[:2] == [None, None]
        assert usages[2]["completion_tokens"] == 4
    else:
        assert usages == ["none", "none"]
    assert stream.tokens == 4
    assert stream.told.prompt_tokens == 9


@pytest.mark.parametrize(
    "answer",
    [
        b"data: [DONE]\n\n",
        b'data: {"error": {"message": "no"}}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": 5}\n\n',
        b"data: {torn\n\n",
    ],
)
def test_a_look_up_that_tells_no_usage_is_the_last_and_shows_nothing(answer: bytes) -> None:
    body = json.dumps(json.loads(CHAT) | {"stream_options": {"include_usage": True}}).encode()
    dialect = DIALECTS["simulated"]
    request = read_request(Api.CHAT, body, dialect)
    stream = OpenAiStream(request)
    for choice in (
        {"index": 0, "delta": {"content": "x"}},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ):
        stream.feed(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
    assert isinstance(continue_openai(request, stream.told, dialect), LookUp)
    stream.begin_again(silent=True)
    assert stream.feed(answer) == b""
    assert stream.is_cut
    assert continue_openai(request, stream.told, dialect) == Close()
    assert stream.close() == b"data: [DONE]\n\n"


def test_a_generate_whose_look_up_tells_no_usage_ends_without_one() -> None:
    request = generation_pb2.GenerateRequest(prompt="hi", request_id="r")
    request.stopping.max_tokens = 1
    stream = GenerateStream(request, DIALECTS["simulated"], None)
    token = generation_pb2.GenerateResponse(request_id="r")
    token.token.text = "x"
    token.token.tokens.add().token_id = 1
    assert stream.feed(token) == [token]
    assert isinstance(stream.next(), LookUp)
    stream.begin_again(silent=True)
    finished = generation_pb2.GenerationFinished(reason=generation_pb2.FINISH_REASON_LENGTH)
    assert stream.feed(generation_pb2.GenerateResponse(finished=finished)) == []
    assert stream.is_cut
    assert isinstance(stream.next(), Close)
    (ending,) = stream.close()
    assert not ending.HasField("usage")
    assert ending.finished.reason == generation_pb2.FINISH_REASON_LENGTH


def test_what_is_held_has_a_bound() -> None:
    held = HeldBytes(100)
    full = []
    for before, after in ((0, 60), (60, 120), (120, 0)):
        assert held.change(before, after) == after == held.held
        full.append(held.is_full)
    assert full == [False, True, False]
    assert HeldBytes(0).is_full


def test_the_last_readable_relay_file_stays_in_force(tmp_path: Path) -> None:
    path = tmp_path / "relay.json"
    known = KnownDeployments(path, FakeClock())
    assert known.dialect("chat") == dialect_of("")
    assert known.label("chat") == "unknown"
    entry = {"deployment": "chat", "engine": "vllm"}
    path.write_text(json.dumps({"format": 1, "deployments": [entry]}))
    known.look()
    assert known.dialect("chat") == DIALECTS["vllm"]
    path.write_text("{torn")
    known.look()
    path.unlink()
    known.look()
    assert known.dialect("chat") == DIALECTS["vllm"]
    assert known.label("chat") == "chat"


def test_a_relay_file_that_could_not_be_read_once_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "relay.json"
    known = KnownDeployments(path, FakeClock())
    entry = {"deployment": "chat", "engine": "vllm"}
    path.write_text(json.dumps({"format": 1, "deployments": [entry]}))
    with monkeypatch.context() as patched:

        def fail(_: Path) -> bytes:
            raise OSError("too many open files")

        patched.setattr(Path, "read_bytes", fail)
        known.look()
    assert known.label("chat") == "unknown"
    known.look()
    assert known.label("chat") == "chat"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"format": 2, "deployments": []}', b'{"format": 1}']
)
def test_another_file_is_no_relay_file(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse_relay_file(data)


@pytest.mark.parametrize(("engine", "most"), [("sglang", 128), ("vllm", 16), ("simulated", None)])
def test_without_a_limit_the_engines_own_counts_for_the_whole(
    engine: str, most: int | None
) -> None:
    """Else the rest alone would have as many tokens as the whole answer."""
    request = generation_pb2.GenerateRequest(request_id="r", prompt="p")
    stream = GenerateStream(request, DIALECTS[engine], None)
    token = generation_pb2.GenerateResponse(request_id="r")
    token.token.text = "x"
    token.token.tokens.add().token_id = 1
    stream.feed(token)
    behind = stream.next()
    assert isinstance(behind, generation_pb2.GenerateRequest)
    left = behind.stopping.max_tokens if behind.stopping.HasField("max_tokens") else None
    assert left == (most if most is None else most - 1)
