"""`skerry chat`: one question or a conversation, streamed, through any gateway."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import EXIT_FAILED, Session, session_of

if TYPE_CHECKING:
    from skerry.client.gateways import Message
    from skerry.client.inference import InferenceClient

_TURNS_MAX = 1_000
# About 1,500 tokens: half the context of the smallest base model that is of any use in a talk.
_REMEMBERED_CHARS_MAX = 6_000


def chat(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Served name; default: the first.")] = None,
    message: Annotated[
        str | None, typer.Option("-m", "--message", help="Ask this and end.")
    ] = None,
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", help="HOST:PORT; repeatable.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=100_000)] = 128,
) -> None:
    """Ask a model; without -m, a line at a time until end of input."""
    code = asyncio.run(_chat(session_of(context), model, message, tuple(gateway or ()), max_tokens))
    if code:
        raise typer.Exit(code)


async def _chat(
    session: Session,
    model: str | None,
    message: str | None,
    named: tuple[str, ...],
    max_tokens: int,
) -> int:
    from skerry.cli.known_gateways import api_key, known_gateways, pick_model
    from skerry.client.inference import connect
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds

    clock = SystemClock()
    ids = SystemIds(clock)
    gateways = await asyncio.to_thread(known_gateways, session, named)
    key = await asyncio.to_thread(api_key, session, named)
    async with connect(gateways, clock, ids, api_key=key) as client:
        served = await pick_model(client, model, key)
        talk = _Talk(client, served, max_tokens, ids.new_id())
        if message is not None:
            return await talk.ask(message)
        for _ in range(_TURNS_MAX):
            line = await asyncio.to_thread(_read_line, served)
            if line is None:
                return 0
            if line.strip():
                await talk.ask(line.strip())
    return 0


class _Talk:
    """A conversation: what was said so far goes with every question."""

    def __init__(
        self, client: "InferenceClient", model: str, max_tokens: int, session: str
    ) -> None:
        # Its earlier turns are cached where they were answered.
        self._headers = (("x-session-id", session),)
        self._client = client
        self._model = model
        self._max_tokens = max_tokens
        self._said: list[Message] = []

    async def ask(self, message: str) -> int:
        """Ask, and show the answer as it comes; return the exit code."""
        from skerry.client.delivery import Interrupted
        from skerry.client.gateways import Message, Request, RequestKind
        from skerry.plumbing.logs import escape_controls

        asked = (*self._said, Message(role="user", content=message))
        request = Request(
            kind=RequestKind.CHAT_STREAM,
            model=self._model,
            messages=asked,
            max_tokens=self._max_tokens,
            headers=self._headers,
        )
        told: list[str] = []
        try:
            async with self._client.ask(request) as answer:
                async for text in answer:
                    told.append(text)
                    # A model's text must not drive the terminal; its line ends are its own.
                    safe = "\n".join(escape_controls(line) for line in text.split("\n"))
                    typer.echo(safe, nl=False)
        except Interrupted as error:
            typer.echo()
            typer.echo(f"interrupted: {error.message}", err=True)
            return EXIT_FAILED
        typer.echo()
        self._remember(*asked, Message(role="assistant", content="".join(told)))
        return 0

    def _remember(self, *messages: "Message") -> None:
        """Keep the last of the conversation: an engine's context has an end."""
        kept: list[Message] = []
        room = _REMEMBERED_CHARS_MAX
        for message in reversed(messages):
            room -= len(message.content)
            if room < 0:
                break
            kept.insert(0, message)
        # A conversation begins with a question.
        self._said = kept if not kept or kept[0].role == "user" else kept[1:]


def _read_line(model: str) -> str | None:
    if sys.stdin.isatty():
        typer.echo(f"{model}> ", nl=False)
    return sys.stdin.readline() or None
