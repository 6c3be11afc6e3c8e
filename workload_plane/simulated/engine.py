"""The simulated engine between its model and its connections: routes, waking, tokens to streams.

Called by `workload_plane.simulated.server`. One event loop and no task per request: a timer wakes
the model when its iteration ends, and each stream gets the tokens of an iteration in one write.
"""

import asyncio
import math
import os
import sys
import traceback
from collections.abc import Callable

from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Exhausted, InvalidInput, NotFound
from workload_plane.simulated.answers import Answer, Question, answer, block_keys
from workload_plane.simulated.apis import (
    Api,
    is_streamed,
    parse_body,
    parse_question,
    wants_counts,
    wants_usage,
)
from workload_plane.simulated.config import SimulatedConfig
from workload_plane.simulated.encoding import (
    Envelope,
    StreamEncoder,
    error_body,
    models_body,
    stream_encoder,
    whole_body,
)
from workload_plane.simulated.faults import Fate, Faults
from workload_plane.simulated.http_connection import TEXT, Connection
from workload_plane.simulated.http_requests import HttpRequest
from workload_plane.simulated.instruments import Instruments
from workload_plane.simulated.model import TOKENS_AT_ONCE_MAX, EngineModel, Sequence

_GENERATING = {
    "/v1/chat/completions": Api.CHAT,
    "/v1/completions": Api.TEXT,
    "/completion": Api.NATIVE,
}
# The loop's timers have whole milliseconds; for less the loop is turned without waiting.
_TIMER_SECONDS_LEAST = 0.0002
_VERSION = b'{"version":"simulated"}'
_ERROR_KINDS = {400: "invalid_request_error", 404: "not_found_error", 405: "invalid_request_error"}


class _Exchange:
    """One request that is being answered: who waits for it, and how far it is told."""

    __slots__ = ("answer", "connection", "encoder", "envelope", "fails_at", "sent")

    def __init__(self, connection: Connection, envelope: Envelope, result: Answer) -> None:
        self.connection = connection
        self.envelope = envelope
        self.answer = result
        self.encoder: StreamEncoder | None = None
        self.sent = 0
        self.fails_at = -1


class SimulatedEngine:
    """Answers requests as the model, the configuration and its faults say."""

    def __init__(
        self, config: SimulatedConfig, clock: Clock, refuse_connections: Callable[[], None]
    ) -> None:
        """Serve nothing yet; `refuse_connections` closes the port for the time of that fault."""
        self._config = config
        self._clock = clock
        self._refuse_connections = refuse_connections
        self._loop = asyncio.get_running_loop()
        self._model = EngineModel(config)
        self._faults = Faults(config)
        self._instruments = Instruments(config, self._model, self._faults)
        self._exchanges: dict[Sequence, _Exchange] = {}
        # A fault at a number of tokens strikes in its iteration, not many later.
        self._tokens_max = 1 if self._faults.watches_tokens() else TOKENS_AT_ONCE_MAX
        self._timer: asyncio.Handle | None = None
        self._timer_due = math.inf
        self._pumping = False
        # Requests that are read in one turn of the loop arrive together: they share an iteration.
        self._turn_at: float | None = None
        self._begun: list[Connection] = []

    @property
    def busy(self) -> bool:
        """Return whether requests are under way."""
        return bool(self._exchanges)

    def handle(self, connection: Connection, request: HttpRequest) -> None:
        """Answer the request, now or when its tokens have come."""
        if self._faults.is_hung:
            return
        api = _GENERATING.get(request.path)
        if api is None:
            self._tell(connection, request)
        elif request.method != "POST":
            self._refuse(connection, 405, f"{request.path} takes POST only")
        else:
            try:
                self._generate(api, connection, request)
            except InvalidInput as error:
                self._refuse(connection, 400, error.message, error.field)
            except NotFound as error:
                self._refuse(connection, 404, error.message, error.field)
            except Exhausted as error:
                self._instruments.failed += 1
                seconds = round(error.retry_after_seconds or 1)
                body = error_body(error.message, "overloaded_error", 429)
                connection.respond(429, body, extra=b"Retry-After: %d\r\n" % seconds)

    def fault_body(self, status: int, message: str) -> bytes:
        """Return the body for bytes that are no request."""
        return error_body(message, "invalid_request_error", status)

    def _tell(self, connection: Connection, request: HttpRequest) -> None:
        path = request.path
        if request.method not in ("GET", "HEAD"):
            known = path in ("/health", "/metrics", "/prometheus/metrics", "/v1/models")
            status = 405 if known else 404
            self._refuse(connection, status, f"{request.method} {path} is not served here")
        elif path == "/health":
            if self._faults.is_unhealthy:
                connection.respond(503, error_body("unhealthy, as it was told", "unhealthy", 503))
            else:
                connection.respond(200, b'{"status":"ok"}')
        elif path in ("/metrics", "/prometheus/metrics"):
            connection.respond(200, self._instruments.page(), TEXT)
        elif path == "/v1/models":
            config = self._config
            connection.respond(200, models_body(config.served_name, config.sequence_tokens_max))
        elif path == "/version":
            connection.respond(200, _VERSION)
        else:
            self._refuse(connection, 404, f"{path} is not served here")

    def _generate(self, api: Api, connection: Connection, request: HttpRequest) -> None:
        config, faults = self._config, self._faults
        body = parse_body(api, request.body, config.served_name)
        if faults.fails_now:
            self._fail("fail_after_requests")
        faults.count()
        self._model.slow_factor = faults.slow_factor
        if faults.refuses_connections:
            self._refuse_connections()
        question = parse_question(api, body, variation=faults.requests)
        room = config.sequence_tokens_max - question.prompt_tokens
        if room < 1:
            raise InvalidInput(
                f"the prompt has {question.prompt_tokens} tokens, which leaves none of the context"
                f" of {config.sequence_tokens_max}; shorten it"
            )
        match faults.fate_of(question):
            case Fate.FAIL:
                self._fail("fail_on_word")
            case Fate.ERROR:
                self._instruments.failed += 1
                self._refuse(connection, 500, "an error, as error_rate says")
                return
        result = answer(question, room=room)
        sequence = self._submit(question, result)
        self._exchange(api, connection, result, sequence, body=body)

    def _submit(self, question: Question, result: Answer) -> Sequence:
        config = self._config
        use_cache = config.prefix_caching and question.use_cache
        sequence = Sequence(
            self._faults.requests,
            prompt_tokens=question.prompt_tokens,
            output_tokens=len(result.words),
            limit_tokens=result.limit_tokens,
            keys=block_keys(question.prompt, config.kv_block_tokens) if use_cache else (),
        )
        now = self._clock.monotonic() if self._turn_at is None else self._turn_at
        self._model.submit(sequence, now)
        return sequence

    def _exchange(
        self,
        api: Api,
        connection: Connection,
        result: Answer,
        sequence: Sequence,
        *,
        body: dict[str, object],
    ) -> None:
        envelope = Envelope(
            api=api,
            id=f"sim-{sequence.number}",
            created=int(self._clock.now().timestamp()),
            model=self._config.served_name,
            prompt_tokens=sequence.prompt_tokens,
        )
        exchange = _Exchange(connection, envelope, result)
        exchange.fails_at = self._faults.fails_at(result)
        self._exchanges[sequence] = exchange
        connection.on_gone = lambda: self._abort(sequence)
        self._wake()
        if self._turn_at is None:
            self._turn_at = sequence.arrived_at
            self._loop.call_soon(self._end_turn)
        if is_streamed(body):
            exchange.encoder = stream_encoder(
                envelope, result, usage=wants_usage(body), counts=wants_counts(body)
            )
            connection.begin()
            self._begun.append(connection)

    def _end_turn(self) -> None:
        """Send the heads of streams that have no tokens yet, and end what counts as one moment."""
        self._turn_at = None
        begun, self._begun = self._begun, []
        for connection in begun:
            connection.flush()

    def _abort(self, sequence: Sequence) -> None:
        if self._exchanges.pop(sequence, None) is not None:
            self._instruments.aborted += 1
            self._model.abort(sequence)

    def _wake(self) -> None:
        """See to it that `_pump` is called when the model has something to do."""
        if self._pumping:
            return
        due = self._model.next_due()
        if due is None or self._timer_due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        seconds = due - self._clock.monotonic()
        if seconds < _TIMER_SECONDS_LEAST:
            self._timer = self._loop.call_soon(self._pump)
        else:
            whole = math.ceil(seconds * 1000) / 1000
            self._timer = self._loop.call_later(whole, self._pump)

    def _pump(self) -> None:
        """Run the model up to now, tell every stream its new tokens, and see when to come back."""
        self._timer, self._timer_due = None, math.inf
        if self._faults.stalls_after(self._model.generated_total):
            return
        try:
            self._advance()
        except Exception:
            # The loop would log it and go on, and every stream would wait for ever.
            traceback.print_exc()
            os._exit(1)
        self._wake()

    def _advance(self) -> None:
        faults, model = self._faults, self._model
        self._pumping = True
        for sequence in model.advance(self._clock.monotonic(), self._tokens_max):
            exchange = self._exchanges.get(sequence)
            if exchange is None:  # the client has just hung up
                continue
            if 0 <= exchange.fails_at < sequence.generated:
                self._fail_soon("fail_on_word")
            elif sequence.finished_at >= 0:
                self._finish(sequence, exchange)
            elif exchange.encoder is not None:
                exchange.connection.send(_news(exchange, exchange.encoder, sequence.generated))
        self._pumping = False
        if faults.fails_after(model.generated_total):
            self._fail_soon("fail_after_tokens")

    def _finish(self, sequence: Sequence, exchange: _Exchange) -> None:
        del self._exchanges[sequence]
        self._instruments.finish(sequence)
        encoder, connection = exchange.encoder, exchange.connection
        if encoder is None:
            connection.respond(
                200, whole_body(exchange.envelope, exchange.answer, sequence.cached_tokens)
            )
        else:
            last = _news(exchange, encoder, sequence.generated)
            connection.end(last + encoder.closing(sequence.cached_tokens))

    def _refuse(
        self, connection: Connection, status: int, message: str, field: str | None = None
    ) -> None:
        kind = _ERROR_KINDS.get(status, "internal_error")
        connection.respond(status, error_body(message, kind, status, field))

    def _fail_soon(self, option: str) -> None:
        # After this turn of the loop, which sends the tokens that were generated until now.
        self._loop.call_soon(self._fail, option)

    def _fail(self, option: str) -> None:
        print(f"simulated: fails, as {option} says", file=sys.stderr, flush=True)
        os._exit(self._config.fail_exit_code)


def _news(exchange: _Exchange, encoder: StreamEncoder, generated: int) -> bytes:
    """Return the events of the tokens that were not sent yet; the first bring the opening."""
    sent, exchange.sent = exchange.sent, generated
    events = encoder.tokens(sent, generated)
    return events if sent else encoder.opening() + events
