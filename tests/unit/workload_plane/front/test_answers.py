"""The plane's answers as one engine, from its replicas' answers."""

import asyncio
import json
from pathlib import Path

import pytest

from skerry.api.openengine.v1 import lifecycle_pb2, model_pb2, server_pb2
from skerry.plumbing.errors import Corrupt
from tests.fakes.clock import FakeClock
from workload_plane.front.answers import (
    abort_answer,
    model_info,
    plane_health,
    server_info,
    total_load,
)
from workload_plane.front.endpoints import (
    ENDPOINTS_FORMAT,
    LOOK_SECONDS,
    Endpoint,
    Endpoints,
    EndpointsWatch,
    Model,
    parse_endpoints,
)
from workload_plane.gateway import routing

READY, NOT_READY = lifecycle_pb2.HEALTH_STATE_READY, lifecycle_pb2.HEALTH_STATE_NOT_READY
MODEL = Model(
    served_name="demo",
    deployment="demo",
    base_model="builtin://tiny",
    context_tokens=2048,
    replicas=(Endpoint(name="demo-r1-a", grpc="h:1"), Endpoint(name="demo-r1-b", grpc="h:2")),
)
REMOTE = Model(served_name="far", deployment="far", base_model="builtin://far", context_tokens=512)
ENDPOINTS = Endpoints(plane="here", models=(MODEL, REMOTE))
FILE = {
    "format": 1,
    "plane": "here",
    "models": [
        {
            "served_name": "demo",
            "deployment": "demo",
            "base_model": "builtin://tiny",
            "context_tokens": 2048,
            "replicas": [{"name": "demo-r1-a", "grpc": "h:1"}],
        }
    ],
}


def test_the_front_reads_the_format_that_the_agent_writes() -> None:
    assert ENDPOINTS_FORMAT == routing.ENDPOINTS_FORMAT


def test_loads_add_up_and_what_nobody_told_stays_unset() -> None:
    total = total_load(
        "here",
        [
            server_pb2.LoadInfo(running_requests=2, queued_requests=1, timestamp_unix_nanos=9),
            server_pb2.LoadInfo(running_requests=3, timestamp_unix_nanos=7),
        ],
    )
    assert (total.running_requests, total.queued_requests) == (5, 1)
    assert total.timestamp_unix_nanos == 7
    assert not total.HasField("used_kv_blocks")
    assert not total_load("here", []).HasField("running_requests")


def test_the_plane_is_one_server_of_all_its_models() -> None:
    one = server_pb2.ServerInfo(
        schema_revision=3, capacity=server_pb2.DeploymentCapacity(max_running_requests=4)
    )
    info = server_info(ENDPOINTS, [one, one], "skerry 1")
    assert list(info.supported_models) == ["demo", "far"]
    assert info.capacity.max_running_requests == 8
    assert info.schema_revision == 3
    assert not server_info(ENDPOINTS, [], "skerry 1").capacity.HasField("max_running_requests")


def test_a_model_without_replicas_here_is_described_as_promised() -> None:
    assert model_info(REMOTE, []).max_context_length == 512
    told = model_info(MODEL, [model_pb2.ModelInfo(model_id="x", max_context_length=64)])
    assert (told.served_model_name, told.max_context_length) == ("demo", 64)


@pytest.mark.parametrize(
    ("models", "states", "expected"),
    [
        ((MODEL,), [("demo-r1-a", READY)], READY),
        ((MODEL, REMOTE), [("demo-r1-a", READY)], lifecycle_pb2.HEALTH_STATE_DEGRADED),
        ((MODEL,), [("demo-r1-a", NOT_READY)], NOT_READY),
        ((MODEL,), [], NOT_READY),
        ((), [], NOT_READY),
    ],
)
def test_health_is_of_every_model_asked_about(
    models: tuple[Model, ...], states: list[tuple[str, int]], expected: int
) -> None:
    assert plane_health(models, states).state == expected


def test_a_replica_that_does_not_answer_is_shown() -> None:
    checks = plane_health((MODEL,), [("demo-r1-a", READY)]).checks
    assert [(check.name, check.message) for check in checks] == [
        ("demo-r1-a", ""),
        ("demo-r1-b", "no answer"),
    ]


def test_an_abort_counts_when_one_replica_did_it() -> None:
    finished = lifecycle_pb2.AbortResponse(status=lifecycle_pb2.ABORT_STATUS_ALREADY_FINISHED)
    aborted = lifecycle_pb2.AbortResponse(status=lifecycle_pb2.ABORT_STATUS_ABORTED)
    assert abort_answer([finished, aborted]) == aborted
    assert abort_answer([]).status == lifecycle_pb2.ABORT_STATUS_ALREADY_FINISHED


def test_the_endpoints_file_is_followed_and_damage_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    watch = EndpointsWatch(path, "here", FakeClock())
    assert watch.current == Endpoints(plane="here")
    path.write_text(json.dumps(FILE))
    watch.look()
    known = watch.current
    assert known.served_names == ("demo",)
    for damage in ("{", "[]", json.dumps({**FILE, "format": 2}), json.dumps({**FILE, "models": 3})):
        path.unlink()
        path.write_text(damage)
        watch.look()
        assert watch.current == known
    path.unlink()
    watch.look()
    assert watch.current == known


async def test_every_change_of_the_endpoints_file_is_handed_on_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "endpoints.json", FakeClock()
    path.write_text(json.dumps(FILE))
    watch = EndpointsWatch(path, "here", clock)
    told: list[Endpoints] = []

    async def tell(endpoints: Endpoints) -> None:
        told.append(endpoints)

    async with asyncio.TaskGroup() as group:
        follower = group.create_task(watch.follow(tell))
        await clock.run_for(2 * LOOK_SECONDS)
        assert told == []
        new = tmp_path / "endpoints.new"
        new.write_text(json.dumps(FILE | {"models": []}))
        new.replace(path)
        await clock.run_for(3 * LOOK_SECONDS)
        assert told == [Endpoints(plane="here")]
        follower.cancel()


def test_what_is_no_endpoints_file_is_refused() -> None:
    with pytest.raises(Corrupt):
        parse_endpoints(b'{"format": 1, "plane": "here", "models": [{}]}')
