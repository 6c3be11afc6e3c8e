"""`openengine.v1` Generate continued: what is asked next, and the one stream that a client sees.

Pure, but that messages are protobuf's. Deltas are never cumulative and the usage is on the last
response only, so what goes on needs no more than its counts put right.
"""

from skerry.api.openengine.v1 import generation_pb2
from skerry.wire.continuation.dialects import Dialect
from skerry.wire.continuation.openai_continuation import Close, LookUp
from skerry.wire.continuation.refusals import Reason, Refusal
from skerry.wire.continuation.seam import SeamWatch, Sight

TOLD_TOKENS_MAX = 1024 * 1024

Request = generation_pb2.GenerateRequest
Response = generation_pb2.GenerateResponse


def refusal_of(request: Request) -> Refusal | None:
    """Return why a begun answer to the request is not continued, None when it can be."""
    sampling = request.sampling
    is_greedy = sampling.HasField("temperature") and sampling.temperature == 0
    reasons = (
        (Reason.GUIDED, request.guided.WhichOneof("guide") is not None),
        (Reason.SEVERAL, sampling.num_sequences > 1),
        (Reason.SEED, sampling.HasField("seed") and not is_greedy and sampling.top_k != 1),
        (Reason.LOGPROBS, request.response.return_prompt_logprobs),
        (Reason.PROMPT, bool(request.kv.session.session_id)),
    )
    return next((Refusal(reason=reason) for reason, holds in reasons if holds), None)


class GenerateStream:
    """Takes responses in and gives responses out; knows what the client was told."""

    __slots__ = (
        "_base",
        "_cached",
        "_dialect",
        "_ending",
        "_held",
        "_ids",
        "_is_begun",
        "_parts",
        "_prompt_tokens",
        "_refusal",
        "_request",
        "_request_id",
        "_seams",
        "_silent",
        "_was_looked_up",
        "_watch",
        "error",
        "is_closed",
        "is_cut",
        "tokens",
    )

    def __init__(self, request: Request, dialect: Dialect, refusal: Refusal | None) -> None:
        """Begin; of a request with a refusal nothing is remembered."""
        self._request = request
        self._dialect = dialect
        self._refusal = refusal
        self._request_id = request.request_id
        self._parts: list[str] = []
        self._ids: list[int] | None = []
        self._base = 0
        self._seams = 0
        self._held: list[Response] = []
        self._watch: SeamWatch | None = None
        self._silent = False
        self._was_looked_up = False
        self._is_begun = False
        self._ending: Response | None = None
        self._prompt_tokens: int | None = None
        if request.WhichOneof("input") == "token_ids":
            self._prompt_tokens = len(request.token_ids.ids)
        self._cached: int | None = None
        self.tokens = 0
        self.is_closed = False
        self.is_cut = False
        self.error: Response | None = None  # a failure that another replica may not have

    def begin_again(self, *, silent: bool = False) -> None:
        """Expect the responses of another replica, which goes on."""
        self._held.clear()
        self.error = None
        self.is_cut = False
        self._base = self.tokens
        self._seams += 1
        self._silent = silent
        self._watch = None
        stops = [c.stop_text for c in self._request.stopping.conditions if c.stop_text]
        if stops and self.tokens:
            watch = SeamWatch("".join(self._parts), stops)
            self._watch = watch if watch.look() is Sight.MAY_BE else None

    def next(self) -> Request | LookUp | Close | Refusal:
        """Return what is to be asked so that the client gets the rest of its answer."""
        if not self._is_begun:
            return self._again()
        if self._refusal is not None:
            return self._refusal
        if self.tokens > TOLD_TOKENS_MAX:
            return Refusal(reason=Reason.TOO_LONG)
        behind = self._behind()
        if isinstance(behind, Refusal):
            return behind
        stopping = behind.stopping
        limit = self._dialect.generate_tokens_default
        if limit is not None and not stopping.HasField("max_tokens"):
            stopping.max_tokens = limit  # of the whole, or the rest alone would have as many
        if self._ending is not None or (
            stopping.HasField("max_tokens") and self.tokens >= stopping.max_tokens
        ):
            if self._prompt_tokens is not None or self._was_looked_up:
                return Close()
            stopping.max_tokens, stopping.min_tokens = 1, 0
            return LookUp(body=behind.SerializeToString())
        if stopping.HasField("max_tokens"):
            stopping.max_tokens -= self.tokens
        if stopping.min_tokens:
            stopping.min_tokens = max(0, stopping.min_tokens - self.tokens)
        return behind

    def feed(self, response: Response) -> list[Response]:
        """Return what the client is sent for one response of a replica."""
        if self.is_closed or self.is_cut:
            return []
        if not self._request_id:
            self._request_id = response.request_id
        response.request_id = self._request_id
        if response.WhichOneof("event") == "error" and response.error.retryable:
            self.error = response
            return []
        self._count(response)
        if self._silent:
            # Whatever it brought, there is no other look-up.
            self._was_looked_up = response.WhichOneof("event") in ("finished", "error")
            self.is_cut = self._was_looked_up or response.HasField("usage")
            return []
        if self._watch is not None:
            return self._watched(response)
        return self._told([response])

    def close(self) -> list[Response]:
        """Return the ending of a stream of which nothing is left to generate."""
        # Of a look-up that was given up nothing is known either.
        self._was_looked_up = self._prompt_tokens is None
        ending = self._ending
        if ending is None:
            ending = _ended(self._request_id, generation_pb2.FINISH_REASON_LENGTH)
        self._put_usage(ending, self.tokens)
        self.is_closed = True
        return [ending]

    def sign(self, response: Response) -> Response:
        """Return a response of our own with the stream's id and what was generated until now."""
        response.request_id = self._request_id
        self._put_usage(response, self.tokens)
        return response

    def _watched(self, response: Response) -> list[Response]:
        assert self._watch is not None
        self._held.append(response)
        is_token = response.WhichOneof("event") == "token"
        match self._watch.look(response.token.text):
            case Sight.MAY_BE if is_token:
                return []
            case Sight.MET:
                self._held.clear()
                self._ending = _ended(self._request_id, generation_pb2.FINISH_REASON_STOP)
                self.is_cut = True
                return []
        held, self._held, self._watch = self._held, [], None
        return self._told(held)

    def _told(self, responses: list[Response]) -> list[Response]:
        """Note what the client learns, and return it with its counts put right."""
        sent = []
        for response in responses:
            match response.WhichOneof("event"):
                case "token":
                    self._keep(response.token)
                case "prompt" if self._seams and self._is_begun:
                    continue
                case "finished":
                    self.is_closed = True
                    self._ending = response
                case "error":
                    self.is_closed = True
            self._is_begun = True
            if self._seams and response.HasField("usage"):
                new = response.usage.completion_tokens
                self._put_usage(response, self._base + new)
            sent.append(response)
        # Several outputs end one by one; the usage is on the last.
        if self._refusal is not None and self.is_closed and not self._has_all(responses):
            self.is_closed = False
        return sent

    def _has_all(self, responses: list[Response]) -> bool:
        is_error = any(r.WhichOneof("event") == "error" for r in responses)
        several = self._request.sampling.num_sequences > 1
        return is_error or not several or any(r.HasField("usage") for r in responses)

    def _keep(self, token: generation_pb2.TokenOutput) -> None:
        self.tokens += len(token.tokens) or bool(token.text)
        if self._refusal is not None or self.tokens > TOLD_TOKENS_MAX:
            return
        if token.text:
            self._parts.append(token.text)
        if self._ids is None or self._request.WhichOneof("input") != "token_ids":
            return
        # One character's bytes may be several tokens, of which llama.cpp tells one.
        is_sure = self._dialect.tells_all_ids or token.text.isascii()
        if token.tokens and is_sure:
            self._ids += [piece.token_id for piece in token.tokens]
        elif token.text:
            self._ids = None

    def _count(self, response: Response) -> None:
        if not response.HasField("usage"):
            return
        usage = response.usage
        if self._prompt_tokens is None and usage.prompt_tokens:
            self._prompt_tokens = max(0, usage.prompt_tokens - self._base)
        if self._cached is None and usage.HasField("cached_prompt_tokens"):
            self._cached = usage.cached_prompt_tokens

    def _put_usage(self, response: Response, completion_tokens: int) -> None:
        """Put the whole stream's counts on the response: none while the prompt's is unknown."""
        if self._prompt_tokens is None and self._was_looked_up:
            response.ClearField("usage")
            return
        prompt_tokens = self._prompt_tokens or 0
        response.usage.prompt_tokens = prompt_tokens
        response.usage.completion_tokens = completion_tokens
        response.usage.total_tokens = prompt_tokens + completion_tokens
        if self._cached is not None:
            response.usage.cached_prompt_tokens = min(self._cached, prompt_tokens)

    def _again(self) -> Request:
        again = Request()
        again.CopyFrom(self._request)
        again.request_id = self._request_id
        return again

    def _behind(self) -> Request | Refusal:
        """Return the request whose answer begins behind what was told."""
        again = self._again()
        if again.WhichOneof("input") != "token_ids":
            again.prompt += "".join(self._parts)
        elif self._ids is None:
            return Refusal(reason=Reason.TOKEN_IDS)
        else:
            again.token_ids.ids.extend(self._ids)
        return again


def _ended(request_id: str, reason: generation_pb2.FinishReason) -> Response:
    finished = generation_pb2.GenerationFinished(output_index=0, reason=reason)
    return Response(request_id=request_id, finished=finished)
