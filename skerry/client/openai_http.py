"""One attempt at one gateway over the OpenAI HTTP API, as pieces of text.

`skerry.client.inference` decides what to do when an attempt fails.
"""

import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from skerry.client.gateways import AttemptFailed, Gateway, Request, RequestKind

# 404: another plane may serve the model. The others are the gateway's or its replicas' state.
_ELSEWHERE = frozenset({404, 408, 429, 500, 502, 503, 504})
_NO_COOL_DOWN = frozenset({404})
_ERROR_CHARS_MAX = 300
_DONE = b"[DONE]"


async def ask_openai(
    session: aiohttp.ClientSession, gateway: Gateway, request: Request
) -> AsyncGenerator[tuple[str, int], None]:
    """Yield (text, tokens) as they come; AttemptFailed when the answer does not come whole."""
    is_stream = request.kind is RequestKind.CHAT_STREAM
    body = {
        "model": request.model,
        "messages": [{"role": "user", "content": request.prompt}],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": is_stream,
    }
    try:
        url = f"http://{gateway.http}/v1/chat/completions"
        async with session.post(url, json=body) as response:
            if response.status != 200:
                raise _refusal(response.status, await response.text(errors="replace"))
            if is_stream:
                async for piece in _read_events(response):
                    yield piece
            else:
                yield _read_whole(await response.read())
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # ValueError: a line longer than aiohttp reads, or text that is not what it should be.
        text = str(error) or type(error).__name__
        raise AttemptFailed(f"{gateway.name}: {text[:_ERROR_CHARS_MAX]}") from None


async def _read_events(response: aiohttp.ClientResponse) -> AsyncGenerator[tuple[str, int], None]:
    is_finished = False
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == _DONE:
            return
        event: Any = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("an event of the stream is not an object")
        if "error" in event:
            raise AttemptFailed(f"the engine says: {_message_of(event)}")
        for choice in event.get("choices", ()):
            text = (choice.get("delta") or {}).get("content")
            if text:
                yield text, 1
            is_finished = is_finished or choice.get("finish_reason") is not None
    if not is_finished:
        raise AttemptFailed("the stream ended without an end")


def _read_whole(body: bytes) -> tuple[str, int]:
    answer: Any = json.loads(body)
    try:
        text = answer["choices"][0]["message"]["content"] or ""
    except (KeyError, IndexError, TypeError):
        raise ValueError("the answer has no choices[0].message.content") from None
    return text, int((answer.get("usage") or {}).get("completion_tokens") or 1)


def _refusal(status: int, body: str) -> AttemptFailed:
    try:
        message = _message_of(json.loads(body))
    except ValueError:
        message = body
    return AttemptFailed(
        f"HTTP {status}: {message[:_ERROR_CHARS_MAX]}",
        elsewhere=status in _ELSEWHERE,
        cool_down=status not in _NO_COOL_DOWN,
    )


def _message_of(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("message", error) if isinstance(error, dict) else error or answer)
