"""The agent keeps its replicas whatever happens to it, to them and to the control plane."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest

from skerry.api.openengine.v1 import generation_pb2, openengine_pb2_grpc, server_pb2
from skerry.fleet.node import NodeCordon
from skerry.plumbing.processes import is_alive, signal_process
from skerry.plumbing.rpc import insecure_channel
from tests.integration.agent_world import PLANE, AgentWorld, a_deployment, a_desired
from workload_plane.replicas.records import record_path

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    world = AgentWorld(tmp_path)
    try:
        yield world
    finally:
        await world.close()


async def _serving(world: AgentWorld, target: int = 2) -> None:
    await world.start_link()
    world.start_agent()
    await world.link.wait_for("hello")
    await world.link.pushes.put(a_desired(1, target))
    await world.link.wait_for("ack", lambda ack: ack.version.generation == 1)
    await world.ready(target)


async def test_replicas_come_and_outlive_the_agent_the_link_and_themselves(
    world: AgentWorld,
) -> None:
    await _serving(world)
    before = world.replicas("ready")
    reported = await world.link.wait_for(
        "observed", lambda o: len([r for r in o.replicas if r.state == 2]) == 2
    )
    assert {r.pid for r in reported.replicas} == {r.pid for r in before}

    # The agent dies: its replicas do not notice, and the next agent adopts them.
    world.kill_agent()
    mark = len(world.link.heard)
    world.start_agent()
    hello = await world.link.wait_for("hello", after=mark)
    assert [r.pid for r in hello.observed.replicas] == [r.pid for r in before]
    assert hello.observed.held.generation == 1
    assert world.replicas("ready") == before

    # The control plane is gone: a killed engine is started again by its host, a killed host is
    # replaced, all the same.
    await world.stop_link()
    os.kill(before[0].engine_pid, signal.SIGKILL)
    host = before[1].host_process
    assert host is not None
    signal_process(host, signal.SIGKILL)
    await world.until(lambda: before[1].name not in _names(world.replicas()))
    await world.until(lambda: {r.restarts for r in world.replicas("ready")} == {1})
    after = await world.ready(2)
    assert before[0].name in _names(after)
    assert {r.restarts for r in after} == {1}
    assert not any(is_alive(p) for r in before if (p := r.engine_process) is not None)

    # And after its return the plane says so.
    mark = len(world.link.heard)
    await world.start_link()
    hello = await world.link.wait_for("hello", after=mark)
    assert {r.name for r in hello.observed.replicas} == _names(after)


async def test_a_torn_record_costs_no_replica_and_starts_none(world: AgentWorld) -> None:
    await _serving(world, target=1)
    (before,) = world.replicas()
    path = record_path(world.data_dir / "replicas", before.name)
    path.write_bytes(path.read_bytes()[:40])
    await world.until(world.replicas)
    assert world.replicas() == (before,)

    # A restart over a record of a later release.
    world.kill_agent()
    path.write_text(path.read_text().replace('"ready"', '"quarantined"'))
    mark = len(world.link.heard)
    world.start_agent()
    hello = await world.link.wait_for("hello", after=mark)
    assert [r.pid for r in hello.observed.replicas] == [before.pid]
    await world.ready(1)
    assert [r.pid for r in world.replicas()] == [before.pid]

    # No file of it can be read: it is kept and reported, and ended on request (`close` looks).
    world.kill_agent()
    directory = path.with_suffix("")
    for file in (path, directory / path.name, directory / "state.json"):
        file.write_bytes(b"{")
    mark = len(world.link.heard)
    world.start_agent()
    hello = await world.link.wait_for("hello", after=mark)
    assert [(r.name, r.pid) for r in hello.observed.replicas] == [(before.name, before.pid)]
    await world.until(lambda: world.status().get("replicas") == {"unreadable": 1})
    assert world.log.count("replica.record-unreadable") == 3
    assert [p.name for p in path.parent.iterdir() if p.is_dir()] == [before.name]


async def test_old_epochs_silent_losses_and_torn_files_change_nothing(world: AgentWorld) -> None:
    await _serving(world, target=1)
    before = world.replicas()
    link = world.link
    await link.pushes.put(a_desired(7, 1, epoch=3))
    await link.wait_for("ack", lambda ack: ack.version.generation == 7)
    await link.pushes.put(a_desired(8, 0, epoch=2))
    nack = await link.wait_for("nack")
    assert "older" in nack.reason
    assert (nack.held.epoch, nack.held.generation) == (3, 7)
    await link.pushes.put(a_desired(8, 1, a_deployment(name="other"), epoch=3))
    await link.wait_for("nack", lambda nack: "tombstone" in nack.reason)
    assert world.replicas() == before

    # The newest copy on disk is torn: the one before it is in force after a restart.
    world.kill_agent()
    path = world.data_dir / "desired" / "desired.skerry"
    path.write_bytes(path.read_bytes()[:-10])
    mark = len(link.heard)
    world.start_agent()
    hello = await link.wait_for("hello", after=mark)
    assert hello.observed.held.generation == 1
    assert "desired.previous-used" in world.log
    await world.until(lambda: world.status().get("desired", {}).get("seen") == "3.7")
    await link.pushes.put(a_desired(2, 0, epoch=1))
    await link.wait_for("nack", lambda nack: "3.7" in nack.reason, after=mark)
    assert world.replicas() == before

    # Both are torn: nothing is known, so nothing is ended.
    world.kill_agent()
    path.write_bytes(b"")
    path.with_name("desired.skerry.prev").write_bytes(b"garbage")
    mark = len(link.heard)
    world.start_agent()
    await link.wait_for("hello", after=mark)
    await link.wait_for("observed", lambda o: len(o.replicas) == 1, after=mark)
    assert world.replicas() == before


async def test_a_crash_loop_stays_with_its_own_deployment(world: AgentWorld) -> None:
    bad = a_deployment(name="bad", options={"no-such-option": "1"})
    await world.start_link()
    world.start_agent()
    await world.link.wait_for("hello")
    await world.link.pushes.put(a_desired(1, 1, a_deployment(), bad))
    await world.until(lambda: [r for r in world.replicas("ready") if r.deployment == "demo"])
    failed = await world.until(
        lambda: [r for r in world.replicas("failed") if r.deployment == "bad"]
    )
    assert "no-such-option" in failed[0].message
    demo = world.replicas("ready")
    await world.until(lambda: any(r.restarts >= 3 for r in world.replicas()))
    assert world.replicas("ready") == demo


async def test_a_second_agent_is_refused_and_sigterm_leaves_replicas(world: AgentWorld) -> None:
    await _serving(world, target=1)
    second = world.run("workload_plane.main")
    await world.until(lambda: not is_alive(second))
    assert f"runs already (process {world.agent.pid})" in world.log  # type: ignore[union-attr]
    before = world.replicas()
    assert world.agent is not None
    signal_process(world.agent, signal.SIGTERM)
    await world.until(lambda: not is_alive(world.agent))  # type: ignore[arg-type]
    assert world.replicas() == before
    assert all((host := r.host_process) is not None and is_alive(host) for r in before)


def _names(records: object) -> set[str]:
    return {record.name for record in records}  # type: ignore[attr-defined]


async def test_users_notice_neither_a_rollout_nor_a_killed_replica(world: AgentWorld) -> None:
    await _serving(world)
    world.start_gateway()
    world.run("workload_plane.front.main")
    async with aiohttp.ClientSession() as session:
        await world.until_served(session)
        failures: list[str] = []
        async with asyncio.TaskGroup() as group:
            users = [group.create_task(_ask(world, session, failures)) for _ in range(2)]
            await world.link.pushes.put(a_desired(2, 2, a_deployment(revision=2)))
            await world.until(lambda: {r.revision for r in world.replicas()} == {2})
            second = await world.ready(2)
            await world.until(lambda: len(world.status()["gateway"]["routable"]) == 2)
            os.kill(second[0].engine_pid, signal.SIGKILL)
            await world.until(lambda: {r.restarts for r in world.replicas()} == {0, 1})
            await world.ready(2)
            for user in users:
                user.cancel()
        assert failures == [], world.log[-6000:]
        assert world.status()["gateway"]["fault"] == ""

        # The plane as one engine, through its gateway; all of it without agent and link.
        world.kill_agent()
        await world.stop_link()
        async with insecure_channel(world.public) as channel:
            control = openengine_pb2_grpc.ControlStub(channel)
            info = await control.GetServerInfo(server_pb2.GetServerInfoRequest())
            assert list(info.supported_models) == ["demo"]
            load = await control.GetLoad(server_pb2.GetLoadRequest())
            assert load.instance_id == PLANE
            inference = openengine_pb2_grpc.InferenceStub(channel)
            call = inference.Generate(
                generation_pb2.GenerateRequest(request_id="1", model="nobody", prompt="x")
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert "demo" in str(caught.value.details())


async def test_a_draining_node_is_emptied_also_by_an_agent_that_is_alone(
    world: AgentWorld,
) -> None:
    world.settings["pools"][0].update(nodes=2, accelerators_per_node=2, node_names=["r1", "r2"])
    world.settings_path.write_text(json.dumps(world.settings))
    await _serving(world)
    world.start_gateway()
    observed = await world.link.wait_for(
        "observed", lambda o: len([r for r in o.replicas if r.start_seconds > 0]) == 2
    )
    assert [(node.name, node.accelerators) for node in observed.nodes] == [("r1", 2), ("r2", 2)]
    assert [list(r.nodes) for r in observed.replicas] == [["r1"], ["r1"]]
    cordon = NodeCordon(node="r1", draining=True)
    await world.link.pushes.put(a_desired(2, 2, node_cordons=(cordon,)))
    await world.link.wait_for("ack", lambda ack: ack.version.generation == 2)
    world.kill_agent()
    await world.stop_link()
    world.start_agent()
    async with aiohttp.ClientSession() as session:
        await world.until_served(session)
        failures: list[str] = []
        async with asyncio.TaskGroup() as group:
            user = group.create_task(_ask(world, session, failures))
            await world.until(lambda: {r.nodes for r in world.replicas()} == {("r2",)})
            await world.ready(2)
            user.cancel()
        assert failures == [], world.log[-6000:]
    assert world.status()["waits"] == []


async def _ask(world: AgentWorld, session: aiohttp.ClientSession, failures: list[str]) -> None:
    while True:
        status, text = await world.ask(session)
        if status != 200:
            failures.append(f"{world.clock.now().isoformat()} {status} {text}")
        await world.clock.sleep(0.05)
