"""gRPC with bytes that may be no message: the operator API's methods and the gateway's."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from skerry.api.openengine.v1 import openengine_pb2
from tests.fuzz.dice import dice_of, mutated
from tests.fuzz.messages import a_message, request_bytes
from tests.fuzz.pace import Pace
from tests.fuzz.tally import INSIDES, Outcome

OWN = "skerry.api."
# Streams go on for ever, and a model writes for as long as it is asked to.
STREAM_SECONDS, CALL_SECONDS = 0.15, 20.0
ANSWERS_MAX = 20
BAD = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)
_METADATA_TEXTS = ("user:ana", "user:", "root", "a b", "user:" + "x" * 500, "token:bootstrap", "")


class OperatorCalls:
    """Every method that the port tells of, with an admin's token, a wrong one and none."""

    name = "operator gRPC"
    concurrency = 12

    def __init__(
        self,
        address: str,
        token: str,
        seed: int,
        words: Sequence[str],
        methods: Sequence[MethodDescriptor],
    ) -> None:
        """Call these methods at the port; `words` are names that there are."""
        self._pace = Pace()
        self._seed, self._words, self._methods = seed, tuple(words), tuple(methods)
        self._bearer = f"Bearer {token}"
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def send(self, number: int) -> Outcome:
        """Send one input and say what came of it."""
        await self._pace.turn()
        dice = dice_of(self._seed, self.name, number)
        method = dice.choice(self._methods)
        request = request_bytes(dice, method.input_type, self._words)
        metadata = self._metadata(dice)
        # Both are told to be over at once now and then: nothing may be half done by it.
        seconds = 0.001 if dice.random() < 0.02 else CALL_SECONDS
        path = f"/{method.containing_service.full_name}/{method.name}"
        if dice.random() < 0.01:
            return await _outcome(self._channel, _odd_path(dice, path), request, metadata, seconds)
        if method.server_streaming:
            answered = await _stream(self._channel, path, request, metadata, STREAM_SECONDS)
        else:
            answered = await _outcome(self._channel, path, request, metadata, seconds)
        if answered.label == grpc.StatusCode.UNIMPLEMENTED.name:
            return Outcome(label=answered.label, finding=f"{method.name}: there is no such method")
        return answered

    def _metadata(self, dice: random.Random) -> tuple[tuple[str, str | bytes], ...]:
        told: list[tuple[str, str | bytes]] = []
        kind = dice.random()
        if kind < 0.86:
            told.append(("authorization", self._bearer))
        elif kind < 0.93:
            told.append(("authorization", _ascii(mutated(dice, self._bearer.encode()))))
        if dice.random() < 0.1:
            told.append(("x-skerry-actor", dice.choice(_METADATA_TEXTS)))
        if dice.random() < 0.1:
            told.append(("x-skerry-reason-bin", dice.randbytes(dice.choice((0, 3, 600)))))
        return tuple(told)


class GatewayCalls:
    """openengine.v1 at a gateway: Generate to the replicas, Control to the plane's front."""

    name = "gateway gRPC"
    concurrency = 12

    def __init__(self, address: str, model: str, seed: int) -> None:
        """Send to the gateway; `model` is one that it serves."""
        self._seed, self._model = seed, model
        self._methods = tuple(
            method
            for service in openengine_pb2.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        )
        self._generate = next(method for method in self._methods if method.name == "Generate")
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def send(self, number: int) -> Outcome:
        """Send one input and say what came of it."""
        dice = dice_of(self._seed, self.name, number)
        method = self._generate if dice.random() < 0.5 else dice.choice(self._methods)
        path = f"/{method.containing_service.full_name}/{method.name}"
        words = (self._model, self._model, "hello", "nope")
        request = request_bytes(dice, method.input_type, words)
        if method is self._generate and dice.random() < 0.4:
            request = _generate(dice, method, self._model)
        if dice.random() < 0.01:
            path = _odd_path(dice, path)
        if method.server_streaming:
            return await _stream(self._channel, path, request, (), STREAM_SECONDS)
        return await _outcome(self._channel, path, request, (), CALL_SECONDS)


_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    # What a process that is gone says at once; a connection is not to be waited for.
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def methods_of(address: str, token: str) -> tuple[MethodDescriptor, ...]:
    """Return every method of ours that the port tells of; it blocks: there is no other client."""
    return tuple(_methods_of(address, f"Bearer {token}"))


def _methods_of(address: str, bearer: str) -> Iterator[MethodDescriptor]:
    database: Any
    with grpc.insecure_channel(address) as plain:
        channel = grpc.intercept_channel(plain, _Credential(bearer))
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        for service in sorted(database.get_services()):
            if service.startswith(OWN):
                yield from pool.FindServiceByName(service).methods


class _Credential(grpc.StreamStreamClientInterceptor):
    """Shows a credential to reflection; inherits because grpc takes nothing else."""

    def __init__(self, bearer: str) -> None:
        self._bearer = bearer

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        told = details._replace(metadata=(("authorization", self._bearer),))
        return continuation(told, requests)


def _generate(dice: random.Random, method: MethodDescriptor, model: str) -> bytes:
    """Return a request that a replica may well answer, with odd wishes beside it."""
    message: Any = a_message(dice, method.input_type, (model, "hello"))
    message.model = model
    message.prompt = "hello " * dice.choice((1, 10, 200))
    if dice.random() < 0.5:
        message.stopping.max_tokens = dice.choice((1, 2, 5))
    return message.SerializeToString()  # type: ignore[no-any-return]


def _ascii(data: bytes) -> str:
    return "".join(chr(byte) for byte in data if 0x20 <= byte < 0x7F)


def _odd_path(dice: random.Random, path: str) -> str:
    return "/" + _ascii(mutated(dice, path.encode())).replace(" ", "")[:1_000]


async def _outcome(
    channel: grpc.aio.Channel, path: str, request: bytes, metadata: Any, seconds: float
) -> Outcome:
    unary: Any = channel.unary_unary(path)
    try:
        await unary(request, timeout=seconds, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return _judged(path, error)
    return Outcome(label="OK")


async def _stream(
    channel: grpc.aio.Channel, path: str, request: bytes, metadata: Any, seconds: float
) -> Outcome:
    """Listen for a moment: a stream that goes on is fine."""
    make: Any = channel.unary_stream(path)
    call = make(request, timeout=CALL_SECONDS, metadata=metadata)
    try:
        async with asyncio.timeout(seconds):
            heard = 0
            async for _ in call:
                heard += 1
                if heard == ANSWERS_MAX:
                    break
    except TimeoutError:
        return Outcome(label="(went on)")
    except grpc.aio.AioRpcError as error:
        return _judged(path, error)
    finally:
        call.cancel()
    return Outcome(label="OK")


def _judged(path: str, error: grpc.aio.AioRpcError) -> Outcome:
    code, details = error.code(), error.details() or ""
    if code in BAD or INSIDES.search(details):
        return Outcome(label=code.name, finding=f"{path}: {code.name} {details[:300]}")
    return Outcome(label=code.name)
