"""From what the engine said to the responses of one Generate stream.

Pure. It keeps the contract's order: deltas are never cumulative, every output ends once, the usage
is on the last response only.
"""

from collections.abc import Iterable

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from workload_plane.replica_host.deltas import (
    Counted,
    Delta,
    Done,
    Ended,
    EngineSaid,
    Failed,
    TokenPiece,
)

Response = generation_pb2.GenerateResponse


class ResponseStream:
    """One stream's responses, in order; holds the last ending back until the usage is known."""

    __slots__ = ("_counted", "_ended", "_held", "_outputs", "_request_id", "finished", "tokens")

    def __init__(self, *, request_id: str, outputs: int) -> None:
        """Begin a stream of so many outputs."""
        self._request_id = request_id
        self._outputs = outputs
        self._ended: set[int] = set()
        self._held: Response | None = None
        self._counted: Counted | None = None
        self.finished = False
        self.tokens = 0

    def feed(self, said: Iterable[EngineSaid]) -> list[Response]:
        """Return the responses to send now; nothing follows once `finished` is set."""
        responses: list[Response] = []
        for event in said:
            if self.finished:
                break
            match event:
                case Delta():
                    self._add_delta(responses, event)
                case Ended():
                    responses += self._end(event)
                case Counted():
                    self._counted = event
                case Failed():
                    responses.append(self._fail(event))
                case Done():
                    responses += self._close()
        return responses

    def cancel(self, message: str, counted: Counted | None) -> list[Response]:
        """Return the endings of all outputs that go on, as cancelled, with what was counted."""
        self._counted = self._counted or counted
        reason = generation_pb2.FINISH_REASON_CANCELLED
        if self._held is None:
            going = [index for index in range(self._outputs) if index not in self._ended]
            responses = [self._finished(index, reason, message) for index in going]
        else:
            responses = [self._held]
        self._held = None
        self.finished = True
        if responses:
            self._put_usage(responses[-1])
        return responses

    def _add_delta(self, responses: list[Response], delta: Delta) -> None:
        self.tokens += len(delta.tokens) + delta.tokens_missing or bool(delta.text)
        last = responses[-1] if responses else None
        # Events that came in one read go out in one response: it costs the same as one token.
        if last is not None and _continues(last, delta):
            last.token.text += delta.text
            last.token.tokens.extend(_token_info(piece) for piece in delta.tokens)
            return
        output = generation_pb2.TokenOutput(
            output_index=delta.output_index,
            text=delta.text,
            tokens=[_token_info(piece) for piece in delta.tokens],
        )
        responses.append(Response(request_id=self._request_id, token=output))

    def _end(self, event: Ended) -> list[Response]:
        if event.output_index in self._ended:
            return []
        self._ended.add(event.output_index)
        response = self._finished(event.output_index, event.reason, "")
        if event.stop_text:
            response.finished.stop_match.stop_text = event.stop_text
        if event.stop_token is not None:
            response.finished.stop_match.stop_token_id = event.stop_token
        if len(self._ended) < self._outputs:
            return [response]
        self._held = response
        return []

    def _close(self) -> list[Response]:
        if self._held is None:
            return [self._fail(Failed(message="the engine ended without a reason", retryable=True))]
        response, self._held = self._held, None
        self.finished = True
        self._put_usage(response)
        return [response]

    def _fail(self, event: Failed) -> Response:
        self.finished = True
        error = error_pb2.EngineError(
            code=event.code, message=event.message, retryable=event.retryable
        )
        response = Response(request_id=self._request_id, error=error)
        self._put_usage(response)
        return response

    def _finished(self, index: int, reason: generation_pb2.FinishReason, message: str) -> Response:
        finished = generation_pb2.GenerationFinished(
            output_index=index, reason=reason, message=message
        )
        return Response(request_id=self._request_id, finished=finished)

    def _put_usage(self, response: Response) -> None:
        counted = self._counted
        if counted is None:
            return
        response.usage.prompt_tokens = counted.prompt_tokens
        response.usage.completion_tokens = counted.completion_tokens
        response.usage.total_tokens = counted.prompt_tokens + counted.completion_tokens
        if counted.cached_prompt_tokens is not None:
            response.usage.cached_prompt_tokens = counted.cached_prompt_tokens


def _continues(response: Response, delta: Delta) -> bool:
    is_token = response.WhichOneof("event") == "token"
    return is_token and response.token.output_index == delta.output_index


def _token_info(piece: TokenPiece) -> generation_pb2.TokenInfo:
    info = generation_pb2.TokenInfo(token_id=piece.id, token=piece.text)
    if piece.logprob is not None:
        info.logprob = piece.logprob
    # One that a guide rules out has no probability at all: 0.0 would be certainty.
    possible = [other for other in piece.candidates if other.logprob is not None]
    for rank, other in enumerate(possible, start=1):
        info.candidates.add(token_id=other.id, token=other.text, logprob=other.logprob, rank=rank)
    return info
