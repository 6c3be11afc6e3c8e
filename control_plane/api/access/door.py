"""The operator port's first door: who calls, and may it?

Before anything of a request is read: what comes from nobody is not even decoded. Behind it stand
the doors of leadership and recovery.
"""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from control_plane.api.access.attempts import peer_host
from control_plane.api.access.authenticator import ANYBODY, Authenticator
from control_plane.api.access.decision import Named, needs_credential, needs_names, refusal_of
from control_plane.api.access.naming import named_in
from control_plane.api.access.rates import CALLS_PER_SECOND, CallRates
from control_plane.instruments import ACCESS_REFUSALS
from skerry.fleet.access import Principal
from skerry.plumbing.errors import Exhausted
from skerry.plumbing.rpc import code_of, decoded

# Streams have no end, credentials do: who still may hear it is looked at again before a message.
RECHECK_SECONDS = 10.0

_Handler: TypeAlias = Any  # grpc's stubs have it generic, the library has not


class IdentifiedCall:
    """A call's context with the principal that was found for it; all else is the call's own."""

    def __init__(self, context: Any, principal: Principal) -> None:
        """Stand for the context."""
        self._context = context
        self.principal = principal

    def __getattr__(self, name: str) -> Any:
        """Return what the call's own context has."""
        return getattr(self._context, name)


def principal_of(context: Any) -> Principal:
    """Return who calls; anybody, where no door stands before the service."""
    return context.principal if isinstance(context, IdentifiedCall) else ANYBODY


class AccessDoor(grpc.aio.ServerInterceptor):
    """Lets in who may call.

    Inherits because grpc.aio takes nothing else.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        """Ask it at every call."""
        self._authenticator = authenticator
        self._rates = CallRates()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the method's handler behind this door; an unknown method stays so."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not needs_credential(method):
            return handler
        return self._guarded(handler, method)

    async def _admit(self, context: Any, method: str) -> IdentifiedCall:
        metadata = tuple(context.invocation_metadata() or ())
        principal = await self._authenticator.principal(metadata, peer_host(context.peer()))
        if not needs_names(principal, method):
            _check(principal, method, Named())
        return IdentifiedCall(context, principal)

    async def _begin(self, context: Any, method: str) -> IdentifiedCall:
        """Let a new call in, one of so many a second; a stream that goes on is not counted."""
        call = await self._admit(context, method)
        # Where nobody is asked who calls, it is by address.
        caller = call.principal.actor or peer_host(context.peer())
        wait = self._rates.wait_seconds(caller, self._authenticator.now())
        if wait > 0.0:
            ACCESS_REFUSALS.labels(code=grpc.StatusCode.RESOURCE_EXHAUSTED.name).inc()
            raise Exhausted(
                f"{caller} calls more than {CALLS_PER_SECOND:g} times a second; try again"
                f" in {wait:.3f} s, or use WatchChanges instead of asking again",
                retry_after_seconds=wait,
            )
        return call

    def _guarded(self, handler: _Handler, method: str) -> _Handler:
        decode = handler.request_deserializer
        is_stream_in = handler.request_streaming

        def read(request: Any, call: IdentifiedCall) -> Any:
            if is_stream_in:  # reflection's alone: nothing of ours takes a stream
                return _decoded_stream(decode, request)
            message = decoded(decode, request)
            if needs_names(call.principal, method):
                _check(call.principal, method, named_in(message))
            return message

        if not handler.response_streaming:
            assert not is_stream_in, "no method of this port takes a stream and answers once"

            async def unary(request: Any, context: Any) -> Any:
                call = await self._begin(context, method)
                return await handler.unary_unary(read(request, call), call)

            return grpc.unary_unary_rpc_method_handler(unary, None, handler.response_serializer)
        behaviour = handler.stream_stream if is_stream_in else handler.unary_stream

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            call = await self._begin(context, method)
            told = read(request, call)
            if not inspect.isasyncgenfunction(behaviour):
                await behaviour(told, call)  # it answers through the context, or refuses
                return
            seen_at = self._authenticator.now()
            async with contextlib.aclosing(behaviour(told, call)) as responses:
                async for response in responses:
                    if self._authenticator.now() - seen_at >= RECHECK_SECONDS:
                        still = await self._admit(context, method)
                        if not is_stream_in:
                            read(request, still)
                        seen_at = self._authenticator.now()
                    yield response

        make: Any = (
            grpc.stream_stream_rpc_method_handler
            if is_stream_in
            else grpc.unary_stream_rpc_method_handler
        )
        return make(stream, None, handler.response_serializer)


def _check(principal: Principal, method: str, named: Named) -> None:
    refusal = refusal_of(principal, method, named)
    if refusal is not None:
        ACCESS_REFUSALS.labels(code=code_of(refusal).name).inc()
        raise refusal


async def _decoded_stream(decode: Any, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield decoded(decode, request)
