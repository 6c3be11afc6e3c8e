"""One attempt at one gateway over the OpenAI HTTP API, as a head, pieces of text and an end.

`skerry.client.inference` decides what to do when an attempt fails.
"""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from skerry.client.answer_head import REQUEST_ID_HEADER, read_head, read_retry_after
from skerry.client.continuing import continued_body
from skerry.client.gateways import (
    AttemptFailed,
    Begun,
    Cause,
    Emitted,
    End,
    Gateway,
    Item,
    Items,
    Piece,
    Request,
)
from skerry.wire.continuation.refusals import ERROR_CODE as NOT_CONTINUED
from skerry.wire.continuation.seam import SeamWatch, Sight
from skerry.wire.refusals import REFUSAL_HEADER, RESIDENCY

# 404: another plane may serve the model. The others are the gateway's or its replicas' state.
_ELSEWHERE = frozenset({404, 408, 429, 500, 502, 503, 504})
_NO_COOL_DOWN = frozenset({404})
_CAUSES = {
    401: Cause.UNAUTHENTICATED,
    403: Cause.DENIED,
    404: Cause.NOT_FOUND,
    429: Cause.EXHAUSTED,
}
_CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_ERROR_CHARS_MAX = 300
_DONE = b"[DONE]"


def openai_body(request: Request) -> dict[str, Any]:
    """Return the JSON body of a request; `fields` come first, what has a name here wins."""
    body: dict[str, Any] = {
        **request.fields,
        "model": request.model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": request.kind.is_stream,
    }
    if request.ignore_eos:
        body["ignore_eos"] = True
    if request.kind.is_stream:
        body.setdefault("stream_options", {"include_usage": True})
    if not request.kind.is_chat:
        body["prompt"] = request.prompt
    elif request.messages:
        body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
    else:
        body["messages"] = [{"role": "user", "content": request.prompt}]
    return body


async def ask_openai(
    session: aiohttp.ClientSession,
    gateway: Gateway,
    request: Request,
    request_id: str,
    emitted: Emitted | None = None,
) -> Items:
    """Yield what comes as it comes; AttemptFailed when the answer does not come whole.

    With `emitted` only the rest is asked for.
    """
    data = json.dumps(openai_body(request)).encode()
    if emitted is None:
        async with contextlib.aclosing(_ask(session, gateway, request, request_id, data)) as items:
            async for item in items:
                yield item
        return
    following = continued_body(request.kind, data, emitted)
    if following is None:
        yield End(finish_reason="length")
        return
    data, stops = following
    async with contextlib.aclosing(_ask(session, gateway, request, request_id, data)) as items:
        async for item in _behind(items, SeamWatch(emitted.text, stops)):
            yield item


async def _ask(
    session: aiohttp.ClientSession,
    gateway: Gateway,
    request: Request,
    request_id: str,
    data: bytes,
) -> Items:
    path = "/v1/chat/completions" if request.kind.is_chat else "/v1/completions"
    headers = {
        "content-type": "application/json",
        REQUEST_ID_HEADER: request_id,
        **dict(request.headers),
    }
    has_begun = False
    try:
        url = f"http://{gateway.http}{path}"
        async with session.post(url, data=data, headers=headers) as response:
            has_begun = True
            if response.status != 200:
                raise _refusal(response, await response.text(errors="replace"))
            yield read_head(response.headers, request_id)
            if request.kind.is_stream:
                async for item in _read_events(response):
                    yield item
            else:
                for item in _read_whole(await response.read()):
                    yield item
    except (aiohttp.ClientError, OSError) as error:
        is_connect = isinstance(error, _CONNECT_ERRORS) and not has_begun
        cause = Cause.CONNECT if is_connect else Cause.RESET
        text = str(error) or type(error).__name__
        raise AttemptFailed(f"{gateway.name}: {text[:_ERROR_CHARS_MAX]}", cause) from None
    except ValueError as error:
        # A line longer than aiohttp reads, or text that is not what it should be.
        text = str(error) or type(error).__name__
        raise AttemptFailed(f"{gateway.name}: {text[:_ERROR_CHARS_MAX]}", Cause.PROTOCOL) from None


async def _behind(items: Items, watch: SeamWatch) -> Items:
    """Yield the items, none of which shows a stop text that begins in what was told before."""
    held: list[Piece] = []
    sight = watch.look()
    async for item in items:
        if isinstance(item, Piece) and sight is Sight.MAY_BE:
            held.append(item)
            sight = watch.look(item.text)
            if sight is Sight.MET:
                yield End(finish_reason="stop")
                return
            if sight is Sight.MAY_BE:
                continue
            for piece in held:
                yield piece
            held.clear()
            continue
        if isinstance(item, End):
            for piece in held:
                yield piece
        yield item


async def _read_events(response: aiohttp.ClientResponse) -> AsyncGenerator[Item, None]:
    reason, usage, begun, is_done = "", None, Begun(), False
    counted = 0
    try:
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == _DONE:
                is_done = True
                break
            event = _event(data)
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                if (now := _begun(begun, delta)) != begun:
                    begun = now
                    yield begun
                if text := delta.get("content") or choice.get("text"):
                    # Exact where chunks have counts; else an event is a token.
                    before, counted = counted, _counted(usage, counted + 1)
                    yield Piece(text, counted - before)
                reason = choice.get("finish_reason") or reason
    except (aiohttp.ClientError, OSError):
        if not reason:
            raise
        # Only the usage is missing: nobody needs to be asked for that.
    if not reason and not is_done:
        raise AttemptFailed("the stream ended without an end", Cause.NO_END)
    yield _end(reason, usage)


def _event(data: bytes) -> dict[str, Any]:
    event: Any = json.loads(data)
    if not isinstance(event, dict):
        raise ValueError("an event of the stream is not an object")
    if "error" in event:
        raise _engine_error(event)
    return event


def _begun(before: Begun, delta: dict[str, Any]) -> Begun:
    """Return what has begun beside the text, this delta included."""
    reasons = bool(delta.get("reasoning_content") or delta.get("reasoning"))
    return Begun(
        has_reasoning=before.has_reasoning or reasons,
        has_tool_calls=before.has_tool_calls or bool(delta.get("tool_calls")),
    )


def _counted(usage: Any, least: int) -> int:
    told = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return max(least, told) if isinstance(told, int) else least


def _read_whole(body: bytes) -> tuple[Piece, End]:
    answer: Any = json.loads(body)
    try:
        choice = answer["choices"][0]
        text = (choice["message"]["content"] if "message" in choice else choice["text"]) or ""
    except (KeyError, IndexError, TypeError):
        raise ValueError("the answer has no choices[0] with a message or a text") from None
    end = _end(choice.get("finish_reason") or "", answer.get("usage"))
    return Piece(text, end.output_tokens or 1), end


def _end(reason: str, usage: Any) -> End:
    if not isinstance(usage, dict):
        return End(finish_reason=reason)
    details = usage.get("prompt_tokens_details")
    return End(
        finish_reason=reason,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _engine_error(event: dict[str, Any]) -> AttemptFailed:
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    text = f"the engine says: {_message_of(event)[:_ERROR_CHARS_MAX]}"
    if code == NOT_CONTINUED:
        # A relay has tried every replica and plane that may be asked.
        return AttemptFailed(text, Cause.CONTINUATION, elsewhere=False)
    return AttemptFailed(text, Cause.ENGINE)


def _refusal(response: aiohttp.ClientResponse, body: str) -> AttemptFailed:
    status = response.status
    try:
        message = _message_of(json.loads(body))
    except ValueError:
        message = body
    if response.headers.get(REFUSAL_HEADER) == RESIDENCY:
        # Says nothing against the gateway, and a plane inside the zones answers.
        text = f"HTTP {status}: {message[:_ERROR_CHARS_MAX]}"
        return AttemptFailed(text, Cause.RESIDENCY, cool_down=False)
    default = Cause.UNAVAILABLE if status in _ELSEWHERE or status >= 500 else Cause.REFUSED
    return AttemptFailed(
        f"HTTP {status}: {message[:_ERROR_CHARS_MAX]}",
        _CAUSES.get(status, default),
        elsewhere=status in _ELSEWHERE,
        cool_down=status not in _NO_COOL_DOWN,
        retry_after_seconds=read_retry_after(response.headers),
    )


def _message_of(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("message", error) if isinstance(error, dict) else error or answer)
