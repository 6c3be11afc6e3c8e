"""Whatever JSON comes, the simulated engine asks itself a question or names what is wrong."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skerry.plumbing.errors import InvalidInput, NotFound
from workload_plane.simulated.answers import answer
from workload_plane.simulated.apis import (
    Api,
    is_streamed,
    parse_body,
    parse_question,
    wants_usage,
)
from workload_plane.simulated.encoding import Envelope, stream_encoder, whole_body

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(["", 7])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("content", "text", "type", "include_usage", "role")), inner, max_size=3
        )
    ),
    max_leaves=6,
)
_FIELDS_TEXT = (
    "prompt messages max_tokens n_predict max_completion_tokens n stop seed temperature stream"
    " stream_options tools response_format echo ignore_eos cache_prompt"
)
FIELDS = tuple(_FIELDS_TEXT.split())
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5)


@given(api=st.sampled_from(list(Api)), body=BODIES)
def test_every_body_is_answered_or_refused(api: Api, body: dict[str, Any]) -> None:
    data = json.dumps(body | {"model": "m"}).encode()
    try:
        parsed = parse_body(api, data, "m")
        question = parse_question(api, parsed, variation=1)
    except InvalidInput:
        return
    result = answer(question, room=40)
    assert 1 <= len(result.words) <= result.limit_tokens <= 40
    envelope = Envelope(api=api, id="sim-1", created=1, model="m", prompt_tokens=1)
    assert json.loads(whole_body(envelope, result, 0))
    is_streamed(parsed)
    encoder = stream_encoder(envelope, result, usage=wants_usage(parsed))
    stream = encoder.opening() + encoder.tokens(0, len(result.words)) + encoder.closing(0)
    for event in stream.decode().removesuffix("data: [DONE]\n\n").split("\n\n"):
        assert not event or json.loads(event.removeprefix("data: "))


@given(data=st.binary(max_size=40))
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    try:
        parse_body(Api.TEXT, data, "m")
    except (InvalidInput, NotFound):
        return
