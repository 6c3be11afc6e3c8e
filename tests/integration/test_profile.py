"""`skerry profile` against a simulated engine that is a process of its own."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from skerry.api.operator.v1 import (
    catalogue_service_pb2,
    deployment_pb2,
    operator_service_pb2,
    placement_pb2,
    plane_pb2,
    pool_pb2,
)
from skerry.client.catalogue_calls import PROFILES, get_entry
from skerry.fleet.deployment import BaseModel, Revision
from skerry.fleet.engine import EngineName, EngineProtocol, EngineSpec
from skerry.fleet.profile import Profile
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.processes import kill_group
from skerry.wire.deployments import deployment_to_proto
from skerry.wire.observations import replica_to_proto
from skerry.wire.supply import identity_to_proto, pool_shape_to_proto
from tests.builders import a_deployment, a_replica, a_shape, an_identity
from tests.integration.replica_process import (
    CLOCK,
    RunningReplica,
    a_spec,
    an_engine,
    running_replica,
)
from tests.integration.test_simulated_engine import SERVED, RunningEngine, spawn_engine
from tests.unit.skerry.cli.conftest import OperatorApi, api

pytestmark = pytest.mark.integration

__all__ = ["api"]  # the fixture

PLANE, POOL = "onprem-fra", "onprem-fra--cpu"
# A token takes 10 ms, and 2 ms more for each other request of its batch.
ENGINE = {"ttft-seconds": "0.02", "tpot-seconds": "0.01", "tpot-seconds-per-request": "0.002"}
SHORT = ("--prompt-tokens", "8", "--output-tokens", "8", "--seconds", "1")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., RunningEngine]]:
    """Start engines that end with the test."""
    started: list[RunningEngine] = []

    def start(**options: str) -> RunningEngine:
        engine = spawn_engine(tmp_path, ENGINE | options)
        started.append(engine)
        asyncio.run(_until_listening(engine))
        return engine

    yield start
    for one in started:
        kill_group(one.process)


async def _until_listening(engine: RunningEngine) -> None:
    while not await is_listening("127.0.0.1", engine.port):
        await CLOCK.sleep(0.02)


def tell(
    api: OperatorApi,
    *replicas: Any,
    gateway: str = "",
    engine: EngineName = EngineName.SIMULATED,
    protocol: EngineProtocol = EngineProtocol.HTTP,
) -> None:
    """Have the fleet serve one deployment by these replicas."""
    deployment = a_deployment(
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="hf://x/y", served_name=SERVED),
            engine=EngineSpec(name=engine, context_tokens=64, protocol=protocol),
            shapes=a_deployment().revision.shapes,
        )
    )
    name = f"projects/default/deployments/{deployment.name}"
    api.answers["GetDeployment"] = deployment_pb2.Deployment(
        name=name, spec=deployment_to_proto(deployment)
    )
    told = operator_service_pb2.ListReplicasResponse()
    for replica in replicas:
        told.replicas.append(placement_pb2.Replica(plane=PLANE, observed=replica_to_proto(replica)))
    api.answers["ListReplicas"] = told
    api.answers["GetPool"] = pool_pb2.Pool(
        name=f"projects/default/pools/{POOL}", plane=PLANE, shape=pool_shape_to_proto(a_shape())
    )
    plane = plane_pb2.Plane(
        name=f"projects/default/planes/{PLANE}", state=plane_pb2.Plane.STATE_CONNECTED
    )
    plane.identity.CopyFrom(identity_to_proto(an_identity(PLANE)))
    plane.gateway.http = plane.gateway.grpc = gateway
    api.answers["GetPlane"] = plane
    api.answers["UpdateProfile"] = lambda request, context: request.profile


def kept(api: OperatorApi) -> list[Profile]:
    read = get_entry("default", PROFILES, "x").read
    return [read(request.profile).value for request in api.asked_of("UpdateProfile")]


def at(engine: RunningEngine, **fields: Any) -> Any:
    """A replica at its engine's own port."""
    http = f"127.0.0.1:{engine.port}"
    return a_replica(http=http, pid=engine.process.pid, start_seconds=3.5, **fields)


def test_a_replica_of_this_host_is_measured_and_its_figures_are_kept(
    api: OperatorApi, engine: Callable[..., RunningEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(api, at(engine()))
    assert api.run("profile", "demo", "--concurrency", "1,2", *SHORT, "-o", "json") == 0
    shown = capsys.readouterr()
    (profile,) = kept(api)
    assert json.loads(shown.out)["name"] == profile.name
    assert "at its own port" in shown.err
    alone, both = profile.steps
    assert (profile.accelerator, profile.accelerators, profile.load_seconds) == ("cpu", 1, 3.5)
    assert (profile.prompt_tokens > 0, profile.output_tokens) == (True, 8)
    # A token takes 10 ms alone and 12 ms in a batch of two; a busy host makes it only longer.
    assert alone.itl_p50_seconds > 0.009
    assert 10.0 < alone.output_tokens_per_second < 1.05 * 8 / (0.02 + 7 * 0.010)
    assert alone.output_tokens_per_second < both.output_tokens_per_second
    assert both.output_tokens_per_second < 1.05 * 2 * 8 / (0.02 + 7 * 0.012)
    assert both.requests > alone.requests
    assert alone.ttft_p50_seconds <= alone.ttft_p99_seconds


def test_what_is_not_to_be_kept_is_only_shown(
    api: OperatorApi, engine: Callable[..., RunningEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(api, at(engine()))
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT, "--no-save") == 0
    shown = capsys.readouterr()
    assert kept(api) == []
    assert "tokens/s within TTFT 2 s" in shown.out
    assert "not kept" in shown.err


def test_a_step_that_fails_ends_the_profile_and_the_others_are_kept(
    api: OperatorApi, engine: Callable[..., RunningEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    # A step of no time is one request for each worker. The engine ends at the third answer: after
    # the one to warm it up and the first step.
    running = engine(**{"fail-after-tokens": "24"})
    tell(api, at(running))
    arguments = ("--concurrency", "1,2", "--prompt-tokens", "8", "--output-tokens", "8")
    assert api.run("profile", "demo", *arguments, "--seconds", "0.001") == 0
    (profile,) = kept(api)
    assert [step.concurrency for step in profile.steps] == [1]
    assert "concurrency 2 was not measured" in capsys.readouterr().err


def test_a_replica_of_another_host_is_measured_through_its_gateway(
    api: OperatorApi, engine: Callable[..., RunningEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    running = engine()
    far = a_replica(http="192.0.2.1:8000", pid=1)
    tell(api, far, gateway=f"127.0.0.1:{running.port}")
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT) == 0
    assert f"through the gateway of plane {PLANE}" in capsys.readouterr().err
    assert len(kept(api)) == 1


def test_figures_of_a_stand_in_are_not_kept_as_the_engines(
    api: OperatorApi, engine: Callable[..., RunningEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(api, at(engine()), engine=EngineName.LLAMACPP)
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT) == 1
    assert "runs the simulated engine in place of llamacpp" in capsys.readouterr().err
    assert kept(api) == []
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT, "--no-save") == 0


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RunningReplica]:
    """A replica with its host, on the simulated engine."""
    spec = a_spec(tmp_path, an_engine(EngineName.SIMULATED, tpot_seconds="0.01"))
    running = running_replica(replace(spec, served_name=SERVED))
    with asyncio.Runner() as runner:
        found = runner.run(running.__aenter__())
        try:
            yield found
        finally:
            runner.run(running.__aexit__(None, None, None))


def test_an_engine_that_takes_tokens_only_is_not_asked(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(api, a_replica(), engine=EngineName.TENSORRT_LLM, protocol=EngineProtocol.TRTLLM)
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT) == 1
    assert "takes tokens only" in capsys.readouterr().err
    assert kept(api) == []


def test_an_engine_without_openai_http_is_measured_over_grpc(
    api: OperatorApi, host: RunningReplica, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = f"127.0.0.1:{free_port('127.0.0.1')}"
    seen = a_replica(name=host.spec.name, http=nobody, grpc=host.grpc, pid=host.process.pid)
    engine, protocol = EngineName.TENSORRT_LLM, EngineProtocol.OPENENGINE
    tell(api, seen, engine=engine, protocol=protocol)
    arguments = ("--concurrency", "1,2", *SHORT, "-o", "json")
    assert api.run("profile", "demo", *arguments, "--no-save") == 0
    shown = capsys.readouterr()
    assert f"at its own port, {host.grpc}" in shown.err
    found = json.loads(shown.out)
    assert [step["concurrency"] for step in found["steps"]] == [1, 2]
    assert (found["output_tokens"], found["prompt_tokens"] > 0) == (8, True)
    alone = found["steps"][0]
    assert alone["itl_p50_seconds"] > 0.009
    assert 10.0 < alone["output_tokens_per_second"] < 1.05 * 8 / (7 * 0.010)
    # The host says that the engine is another one than deployed.
    assert api.run("profile", "demo", *arguments) == 1
    assert "simulated engine in place of tensorrt-llm" in capsys.readouterr().err
    # The gateway's gRPC is asked where the replica is another host's.
    far = a_replica(name="far", http="192.0.2.1:1", grpc="192.0.2.1:2", pid=1)
    tell(api, far, gateway=host.grpc, engine=engine, protocol=protocol)
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT, "--no-save") == 0
    assert f"through the gateway of plane {PLANE}, {host.grpc}" in capsys.readouterr().err
    assert kept(api) == []


class _Silent(BaseHTTPRequestHandler):
    """Answers completions as any engine does, and nothing else: gateways have no /version."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        for _ in range(8):
            self.wfile.write(b'data: {"choices":[{"text":" a"}]}\n\n')
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def silent() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Silent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_figures_are_not_kept_where_nothing_tells_which_engine_made_them(
    api: OperatorApi,
    host: RunningReplica,
    silent: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    far = a_replica(name="far", http="192.0.2.1:8000", grpc="", pid=1)
    arguments = ("--concurrency", "1", *SHORT)
    tell(api, far, gateway=silent, engine=EngineName.LLAMACPP)
    assert api.run("profile", "demo", *arguments) == 1
    assert "nothing tells from here whether replica far runs llamacpp" in capsys.readouterr().err
    assert api.run("profile", "demo", *arguments, "--no-save") == 0
    # Its host is reached: it says which engine runs, to whoever asks it by the replica's name.
    for name, told in (
        (host.spec.name, "runs the simulated engine in place of llamacpp"),
        ("another", "nothing tells from here whether replica another runs llamacpp"),
    ):
        seen = a_replica(name=name, http="192.0.2.1:8000", grpc=host.grpc, pid=1)
        tell(api, seen, gateway=silent, engine=EngineName.LLAMACPP)
        capsys.readouterr()
        assert api.run("profile", "demo", *arguments) == 1
        assert told in capsys.readouterr().err
    assert kept(api) == []


def test_each_run_sends_prompts_of_its_own(
    api: OperatorApi, engine: Callable[..., RunningEngine]
) -> None:
    running = engine()
    for _ in range(2):
        tell(api, at(running))
        assert api.run("profile", "demo", "--concurrency", "1", *SHORT) == 0
    first, second = kept(api)
    assert "prompts of" in first.software
    assert first.software != second.software


def test_a_gateway_before_several_replicas_is_not_taken_for_one(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    far = [a_replica(name=name, http="192.0.2.1:8000", pid=1) for name in ("a", "b")]
    tell(api, *far, gateway="127.0.0.1:1")
    assert api.run("profile", "demo", *SHORT) == 1
    assert "spreads requests over 2" in capsys.readouterr().err


def test_a_port_of_this_host_that_serves_something_else_is_not_measured(
    api: OperatorApi, engine: Callable[..., RunningEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    running = engine()
    dead = f"127.0.0.1:{free_port('127.0.0.1')}"
    tell(api, a_replica(http=dead, pid=running.process.pid), gateway=f"127.0.0.1:{running.port}")
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT) == 0
    assert "through the gateway" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--concurrency", "2,1"], "rising"),
        (["--concurrency", "x"], "1,2,4,8"),
        (["--prompt-tokens", "60", "--output-tokens", "8"], "context is 64"),
        (["--output-tokens", "1"], "2.."),
        (["--seconds", "0"], "above 0"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_fault(
    api: OperatorApi, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(api, a_replica(http="192.0.2.1:8000", pid=1), gateway="127.0.0.1:1")
    assert api.run("profile", "demo", *arguments) == 2
    assert told in capsys.readouterr().err


def test_a_deployment_without_a_ready_replica_says_so(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(api, a_replica(revision=2))
    assert api.run("profile", "demo") == 1
    assert "no replica of deployment 'demo' is READY" in capsys.readouterr().err


def test_profiles_are_listed_with_their_peak(
    api: OperatorApi, engine: Callable[..., RunningEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(api, at(engine()))
    assert api.run("profile", "demo", "--concurrency", "1", *SHORT) == 0
    (message,) = [request.profile for request in api.asked_of("UpdateProfile")]
    api.answers["ListProfiles"] = catalogue_service_pb2.ListProfilesResponse(profiles=[message])
    capsys.readouterr()
    assert api.run("get", "profiles") == 0
    (profile,) = kept(api)
    shown = capsys.readouterr().out
    assert profile.name in shown
    assert f"{profile.peak_tokens_per_second:,.1f}" in shown
    assert api.run("describe", "deployment", "demo") == 0
    assert f"(profile {profile.name})" in capsys.readouterr().out
    assert api.run("delete", "profile", profile.name) == 0
