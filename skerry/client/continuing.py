"""What another gateway is asked when an answer broke that the user has read the beginning of.

The rules are the relay's (`skerry.wire.continuation`); the client needs them for the death of a
whole plane, its relay included. Pure, but that Generate's messages are protobuf's.
"""

from skerry.api.openengine.v1 import generation_pb2
from skerry.client.gateways import AttemptFailed, Cause, Emitted, RequestKind
from skerry.wire.continuation.dialects import dialect_of
from skerry.wire.continuation.generate import GenerateStream, refusal_of
from skerry.wire.continuation.openai_continuation import Close, LookUp, Told, continue_openai
from skerry.wire.continuation.openai_request import Api, read_request
from skerry.wire.continuation.refusals import Refusal


def continued_body(
    kind: RequestKind, body: bytes, emitted: Emitted
) -> tuple[bytes, tuple[str, ...]] | None:
    """Return the body that asks for the rest, and the stop texts; None when nothing is left.

    Raises AttemptFailed when the request is of a kind that nobody can go on with.
    """
    dialect = dialect_of(emitted.dialect)
    api = Api.CHAT if kind.is_chat else Api.TEXT
    request = read_request(api, body, dialect)
    told = Told(
        text=emitted.text,
        tokens=emitted.tokens,
        has_reasoning=emitted.has_reasoning,
        has_tool_calls=emitted.has_tool_calls,
    )
    match continue_openai(request, told, dialect):
        case Refusal() as refusal:
            raise _refused(refusal)
        case Close() | LookUp():
            return None
        case go_on:
            return go_on.body, request.stops


def continued_message(
    message: generation_pb2.GenerateRequest, emitted: Emitted
) -> generation_pb2.GenerateRequest | None:
    """Return the message that asks for the rest, None when nothing is left to generate.

    Raises AttemptFailed when the request is of a kind that nobody can go on with.
    """
    stream = GenerateStream(message, dialect_of(emitted.dialect), refusal_of(message))
    stream.feed(_told(emitted))
    stream.begin_again()
    following = stream.next()
    if isinstance(following, Refusal):
        raise _refused(following)
    return None if isinstance(following, Close | LookUp) else following


def _told(emitted: Emitted) -> generation_pb2.GenerateResponse:
    response = generation_pb2.GenerateResponse()
    response.token.text = emitted.text
    ids = emitted.token_ids or (0,) * emitted.tokens
    for token_id in ids:
        response.token.tokens.add().token_id = token_id
    return response


def _refused(refusal: Refusal) -> AttemptFailed:
    return AttemptFailed(refusal.message, Cause.CONTINUATION, elsewhere=False, cool_down=False)
