"""The simulated engine's HTTP server: OpenAI's API, llama.cpp's, health and metrics.

Called by `__main__`; one event loop, no threads. Exit codes: 0 after SIGTERM, 1 when it cannot
serve, 2 for a file that is missing or bad.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from skerry.plumbing import tasks
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import Exhausted, InvalidInput, NotFound, SkerryError
from skerry.plumbing.ports import check_port_free
from workload_plane.simulated.answers import Answer, answer
from workload_plane.simulated.apis import (
    Api,
    Envelope,
    error_body,
    last_chunks,
    parse_question,
    role_chunk,
    token_chunk,
    whole_body,
)
from workload_plane.simulated.config import SimulatedConfig, read_config
from workload_plane.simulated.latency import tpot_seconds, ttft_seconds
from workload_plane.simulated.slots import Slots

# A prompt of 128 k tokens is half a megabyte; images are not taken.
_BODY_BYTES_MAX = 4 * 1024 * 1024
# The replica host has drained before it sends SIGTERM.
_SHUTDOWN_SECONDS = 0.5
# Only for the advice when to come back: an answer of middle length.
_ANSWER_TOKENS_USUAL = 40


class SimulatedEngine:
    """One engine's counters and slots, and its HTTP handlers."""

    def __init__(self, config: SimulatedConfig, clock: Clock) -> None:
        """Serve nothing yet; `application` gives the routes."""
        self._config = config
        self._clock = clock
        self._slots = Slots(
            running_max=config.concurrent_requests, waiting_max=config.queue_requests_max
        )
        self._requests = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._cancelled = 0
        self._hung = asyncio.Event()

    def application(self) -> web.Application:
        """Return the routes as an aiohttp application."""
        application = web.Application(client_max_size=_BODY_BYTES_MAX)
        application.router.add_get("/health", self._health)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/v1/models", self._models)
        for path, api in (
            ("/v1/chat/completions", Api.CHAT),
            ("/v1/completions", Api.TEXT),
            ("/completion", Api.NATIVE),
        ):
            application.router.add_post(path, self._generate_by(api))
        return application

    async def _health(self, _: web.Request) -> web.Response:
        await self._hang_if_told()
        return web.json_response({"status": "ok"})

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self._config.served_name, "object": "model", "owned_by": "skerry"}
        return web.json_response({"object": "list", "data": [model]})

    async def _metrics(self, _: web.Request) -> web.Response:
        await self._hang_if_told()
        samples = (
            ("simulated_requests_running", "gauge", self._slots.running),
            ("simulated_requests_waiting", "gauge", self._slots.waiting),
            ("simulated_requests_total", "counter", self._requests),
            ("simulated_requests_cancelled_total", "counter", self._cancelled),
            ("simulated_prompt_tokens_total", "counter", self._prompt_tokens),
            ("simulated_generated_tokens_total", "counter", self._generated_tokens),
        )
        text = "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, kind, value in samples)
        return web.Response(text=text)

    def _generate_by(self, api: Api) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await self._generate(api, request)
            except InvalidInput as error:
                body = error_body(error.message, "invalid_request_error", 400)
                return web.json_response(body, status=400)
            except NotFound as error:
                body = error_body(error.message, "not_found_error", 404)
                return web.json_response(body, status=404)
            except Exhausted as error:
                seconds = round(error.retry_after_seconds or 1)
                body = error_body(error.message, "overloaded_error", 429)
                headers = {"Retry-After": str(seconds)}
                return web.json_response(body, status=429, headers=headers)
            except asyncio.CancelledError:
                self._cancelled += 1
                raise

        return handle

    async def _generate(self, api: Api, request: web.Request) -> web.StreamResponse:
        body = await self._body(api, request)
        self._fail_if_told()
        await self._hang_if_told()
        self._requests += 1
        number = self._requests
        question = parse_question(api, body, variation=number)
        if question.prompt_tokens >= self._config.context_tokens:
            raise InvalidInput(
                f"the prompt has {question.prompt_tokens} tokens, which leaves none of the context"
                f" of {self._config.context_tokens}; shorten it"
            )
        result = answer(question, context_tokens=self._config.context_tokens)
        envelope = Envelope(
            api=api,
            id=f"sim-{number}",
            created=int(self._clock.now().timestamp()),
            model=self._config.served_name,
            prompt_tokens=question.prompt_tokens,
        )
        each = self._config.ttft_seconds + _ANSWER_TOKENS_USUAL * self._config.tpot_seconds
        async with self._slots.take(seconds_each=each):
            self._prompt_tokens += question.prompt_tokens
            if body.get("stream") is True:
                options = body.get("stream_options")
                usage = isinstance(options, dict) and options.get("include_usage") is True
                return await self._stream(request, envelope, result, number, usage=usage)
            async for _ in self._pace(result, envelope, number):
                pass
            return web.json_response(whole_body(envelope, result))

    async def _stream(
        self, request: web.Request, envelope: Envelope, result: Answer, number: int, *, usage: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if envelope.api is Api.CHAT:
            await response.write(_event(role_chunk(envelope)))
        async for position in self._pace(result, envelope, number):
            chunk = token_chunk(envelope, result.tokens[position], position)
            await response.write(_event(chunk))
        ending = b"".join(_event(chunk) for chunk in last_chunks(envelope, result, usage=usage))
        if envelope.api is not Api.NATIVE:
            ending += b"data: [DONE]\n\n"
        await response.write(ending)
        await response.write_eof()
        return response

    async def _pace(self, result: Answer, envelope: Envelope, number: int) -> Any:
        """Yield each token's position when its time has come; late ones catch up."""
        config = self._config
        due = self._clock.monotonic()
        due += ttft_seconds(config, prompt_tokens=envelope.prompt_tokens, request=number)
        await self._clock.sleep(due - self._clock.monotonic())
        for position in range(len(result.tokens)):
            if position:
                batch = max(1, self._slots.running)
                due += tpot_seconds(config, batch=batch, request=number, token=position)
                await self._clock.sleep(due - self._clock.monotonic())
            self._generated_tokens += 1
            yield position

    async def _body(self, api: Api, request: web.Request) -> dict[str, Any]:
        try:
            body = json.loads(await request.read())
        except ValueError as error:
            raise InvalidInput(f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise InvalidInput("the body must be a JSON object")
        model = body.get("model")
        served = self._config.served_name
        if model != served and not (api is Api.NATIVE and model is None):
            raise NotFound(f"model {str(model)[:200]!r} is not served here; served is {served!r}")
        return body

    def _fail_if_told(self) -> None:
        if 0 < self._config.fail_after_requests <= self._requests:
            print("simulated: fails, as fail_after_requests says", file=sys.stderr, flush=True)
            os._exit(1)

    async def _hang_if_told(self) -> None:
        if 0 < self._config.hang_after_requests <= self._requests:
            await self._hung.wait()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(prog="simulated")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        config = read_config(arguments.config)
        asyncio.run(_serve(config, SystemClock()))
    except SkerryError as error:
        print(f"simulated: {error}", file=sys.stderr, flush=True)
        return 2 if isinstance(error, NotFound | InvalidInput) else 1
    return 0


async def _serve(config: SimulatedConfig, clock: Clock) -> None:
    stop = asyncio.Event()
    tasks.stop_on_signals(stop)
    check_port_free(config.host, config.port)
    # Like the real ones: while it loads, the port refuses.
    if await tasks.sleep_unless_stopped(config.startup_seconds, clock, stop):
        return
    runner = web.AppRunner(
        SimulatedEngine(config, clock).application(),
        access_log=None,
        # A user who hangs up frees the slot at once.
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    await web.TCPSite(runner, config.host, config.port).start()
    address = f"{config.host}:{config.port}"
    print(f"simulated: listening on {address}", file=sys.stderr, flush=True)
    await stop.wait()
    await runner.cleanup()


def _event(chunk: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
