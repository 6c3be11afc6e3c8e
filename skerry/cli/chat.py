"""`skerry chat`: one question or a conversation, streamed, through any gateway."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import EXIT_FAILED, Session, session_of

if TYPE_CHECKING:
    from skerry.client.inference import InferenceClient

_TURNS_MAX = 1_000


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
    from skerry.cli.known_gateways import known_gateways, pick_model
    from skerry.client.inference import connect
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds

    clock = SystemClock()
    gateways = await asyncio.to_thread(known_gateways, session, named)
    async with connect(gateways, clock, SystemIds(clock)) as client:
        served = await pick_model(client, model)
        if message is not None:
            return await _ask(client, served, message, max_tokens)
        for _ in range(_TURNS_MAX):
            line = await asyncio.to_thread(_read_line, served)
            if line is None:
                return 0
            if line.strip():
                await _ask(client, served, line, max_tokens)
    return 0


async def _ask(client: "InferenceClient", model: str, message: str, max_tokens: int) -> int:
    from skerry.client.gateways import AttemptFailed, Request, RequestKind
    from skerry.plumbing.logs import escape_controls

    request = Request(
        kind=RequestKind.CHAT_STREAM, model=model, prompt=message, max_tokens=max_tokens
    )
    try:
        async with client.ask(request) as answer:
            async for text in answer:
                # A model's text must not drive the terminal; its line ends are its own.
                safe = "\n".join(escape_controls(line) for line in text.split("\n"))
                typer.echo(safe, nl=False)
    except AttemptFailed as error:
        typer.echo()
        typer.echo(f"interrupted: {error.message}", err=True)
        return EXIT_FAILED
    typer.echo()
    return 0


def _read_line(model: str) -> str | None:
    if sys.stdin.isatty():
        typer.echo(f"{model}> ", nl=False)
    return sys.stdin.readline() or None
