"""`trtllm.TrtllmService` through real gateways, to real replica hosts with engines of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
import pytest_asyncio

from skerry.api.openengine.v1 import openengine_pb2_grpc, server_pb2
from tests.integration.gateway_world import (
    GENERATE,
    HOST,
    FakeEngine,
    World,
    a_model,
    a_world,
    eventually,
    generate,
)
from tests.integration.replica_process import RunningReplica, a_spec, get_json, running_replica
from tests.integration.trtllm_engine import (
    FIRST_ID,
    SERVICE,
    a_request,
    a_trtllm_engine,
    call,
    messages,
    put_on_path,
)
from workload_plane.gateway.topology import LocalReplica, ServedModel

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TOKENS, OTHER = "tokens", "other-tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Planes `a`, with a replica of each of two such models, and `b`, which has only `a` to ask."""

    world: World
    replicas: dict[str, RunningReplica]
    channels: dict[str, grpc.aio.Channel]


def a_token_model(name: str, *replicas: RunningReplica, peers: tuple[str, ...]) -> ServedModel:
    return replace(
        a_model("", peers=peers),
        served_name=name,
        deployment=name,
        serves_trtllm=True,
        replicas=tuple(
            LocalReplica(
                name=f"{name}-1",
                host=one.spec.host,
                http_port=one.spec.http_port,
                grpc_port=one.spec.grpc_port,
                health_port=one.spec.health_port,
            )
            for one in replicas
        ),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    directory = tmp_path_factory.mktemp("trtllm-gateway")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", put_on_path(directory / "bin"))
        specs = {
            name: a_spec(directory / name, a_trtllm_engine(), name=f"{name}-1", served_name=name)
            for name in (TOKENS, OTHER)
        }
        async with (
            running_replica(specs[TOKENS]) as first,
            running_replica(specs[OTHER]) as second,
            a_world(directory) as world,
        ):
            plain = world.engines["a1"] = FakeEngine("a1")
            await plain.start()
            a, b = world.planes["a"], world.planes["b"]
            others = (
                a_token_model(TOKENS, first, peers=("b",)),
                a_token_model(OTHER, second, peers=("b",)),
            )
            a.topology = replace(a.topology, models=(a_model("1", plain), *others))
            b.topology = replace(b.topology, models=(a_token_model(TOKENS, peers=("a",)),))
            for name in ("a", "b"):
                await world.settled(name, await world.planes[name].publish())

            async def peers_seen() -> bool:
                status = await world.status("b")
                return bool(status and status.peers and status.peers["a"].serving)

            await eventually(peers_seen)
            ports = {name: one.topology.listen.public_port for name, one in world.planes.items()}
            async with (
                grpc.aio.insecure_channel(f"{HOST}:{ports['a']}") as at_a,
                grpc.aio.insecure_channel(f"{HOST}:{ports['b']}") as at_b,
            ):
                replicas = {TOKENS: first, OTHER: second}
                yield Fleet(world=world, replicas=replicas, channels={"a": at_a, "b": at_b})


def named(model: str) -> tuple[tuple[str, str], ...]:
    return (("x-model", model),)


async def refusal(answer: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value


async def requests_at(replica: RunningReplica) -> int:
    _, load = await get_json(f"{replica.health}/load")
    return int(load["running_requests"])


@pytest.mark.parametrize("model", [TOKENS, OTHER])
async def test_a_stream_of_tokens_comes_from_the_replica_of_the_model_that_the_header_names(
    fleet: Fleet, model: str
) -> None:
    stream = call(fleet.channels["a"], "Generate")(a_request("r", 9), metadata=named(model))
    answers = [one async for one in stream]
    assert [list(one.chunk.token_ids) for one in answers[:-1]] == [[FIRST_ID + n] for n in range(9)]
    assert list(answers[-1].complete.output_token_ids) == list(range(FIRST_ID, FIRST_ID + 9))
    assert f'replica;desc="{model}-1"' in dict(await stream.initial_metadata())["server-timing"]
    about = call(fleet.channels["a"], "GetModelInfo")
    told = await about(messages()["GetModelInfoRequest"](), metadata=named(model))
    assert told.model_id == model


async def test_a_peer_without_a_replica_forwards_the_stream(fleet: Fleet) -> None:
    stream = call(fleet.channels["b"], "Generate")(a_request("far", 5), metadata=named(TOKENS))
    answers = [one async for one in stream]
    assert list(answers[-1].complete.output_token_ids) == list(range(FIRST_ID, FIRST_ID + 5))
    assert dict(await stream.initial_metadata())["x-skerry-plane"] == "a"


@pytest.mark.parametrize("plane", ["a", "b"])
async def test_a_client_that_cancels_frees_the_engine_behind_every_gateway(
    fleet: Fleet, plane: str
) -> None:
    stream = call(fleet.channels[plane], "Generate")(a_request("gone", 480), metadata=named(TOKENS))
    await stream.read()
    assert await requests_at(fleet.replicas[TOKENS]) == 1
    stream.cancel()

    async def freed() -> bool:
        return await requests_at(fleet.replicas[TOKENS]) == 0

    await eventually(freed)
    abort = messages()["AbortRequest"](request_id="gone")
    told = await call(fleet.channels["a"], "Abort")(abort, metadata=named(TOKENS))
    assert not told.success, "the engine itself goes on with it"


async def test_a_model_that_is_not_served_so_is_not_found(fleet: Fleet) -> None:
    for wrong in ("nobody", "m1"):
        asked = call(fleet.channels["a"], "Generate")(a_request("r", 1), metadata=named(wrong))
        error = await refusal(asked.read())
        assert error.code() is grpc.StatusCode.NOT_FOUND
        details = error.details() or ""
        assert f"`{wrong}`" in details
        assert f"x-model must name one of: {OTHER}, {TOKENS}" in details
        assert dict(error.trailing_metadata() or ())["x-request-id"]


async def test_a_call_that_names_no_model_is_told_how(fleet: Fleet) -> None:
    error = await refusal(call(fleet.channels["a"], "Generate")(a_request("r", 1)).read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "x-model must name one of" in (error.details() or "")


@pytest.mark.parametrize("by_header", [True, False])
async def test_openengine_generate_is_refused_with_the_way_that_there_is(
    fleet: Fleet, by_header: bool
) -> None:
    ways: dict[str, str] = {"x-model": TOKENS} if by_header else {}
    error = await refusal(generate(fleet.world, "a", "" if by_header else TOKENS, GENERATE, **ways))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert SERVICE in (error.details() or "")


@pytest.mark.parametrize("stream", [True, False])
async def test_openai_http_is_refused_with_the_way_that_there_is(
    fleet: Fleet, stream: bool
) -> None:
    status, body = await fleet.world.chat("a", TOKENS, stream=stream)
    assert (status, body["error"]["code"]) == (400, "openai_http_not_served")
    assert SERVICE in body["error"]["message"]
    assert (await fleet.world.chat("a", "m1"))[0] == 200


async def test_the_replicas_host_answers_control_for_the_front(fleet: Fleet) -> None:
    async with grpc.aio.insecure_channel(fleet.replicas[TOKENS].grpc) as channel:
        control = openengine_pb2_grpc.ControlStub(channel)
        told = await control.GetServerInfo(server_pb2.GetServerInfoRequest())
    assert list(told.supported_models) == [TOKENS]
