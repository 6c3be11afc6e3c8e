"""Real gateways, pickers and simulated engines that die of a word: two die of it, no third."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry.plumbing.ports import free_port
from skerry.plumbing.processes import ProcessRecord, is_alive, kill_group, spawn
from tests.integration.gateway_world import HOST, eventually
from tests.integration.picker_world import PickedWorld, a_picked_world, a_routed_model
from workload_plane.gateway.topology import LocalReplica, ServedModel

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
POISON: list[dict[str, str]] = [{"role": "user", "content": "this is poison"}]
GOOD: list[dict[str, str]] = [{"role": "user", "content": "this is food"}]


class Mortals:
    """Simulated engines that die of a word and are started again by nobody."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[str, ProcessRecord] = {}

    def start(self, name: str) -> LocalReplica:
        port = free_port(HOST)
        config = {
            "served_name": "m1",
            "host": HOST,
            "port": port,
            "ttft_seconds": 0.001,
            "tpot_seconds": 0.0001,
            "fail_on_word": "poison",
        }
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        self.processes[name] = spawn(
            [sys.executable, "-m", "workload_plane.simulated", "--config", str(file)],
            env=None,
            cwd=ROOT,
            stdout_path=self.directory / f"{name}.log",
            die_with_parent=True,
        )
        return LocalReplica(
            name=name, host=HOST, http_port=port, grpc_port=port, health_port=port, draining=False
        )

    def living(self) -> list[str]:
        return [name for name, process in self.processes.items() if is_alive(process)]

    def end(self) -> None:
        for process in self.processes.values():
            kill_group(process)


def a_model_of(*replicas: LocalReplica) -> ServedModel:
    return replace(a_routed_model("1"), replicas=replicas)


async def ask(picked: PickedWorld, messages: Any) -> tuple[int, Any]:
    return await picked.world.chat("a", "m1", messages=messages, max_tokens=4)


async def test_no_third_engine_dies_of_the_same_request(tmp_path: Path) -> None:
    mortals = Mortals(tmp_path)
    try:
        async with a_picked_world(tmp_path) as picked:
            replicas = [mortals.start(name) for name in ("a1", "a2", "a3", "a4")]
            await picked.publish("a", a_model_of(*replicas))
            status, _ = await ask(picked, GOOD)
            assert status == 200
            status, body = await ask(picked, POISON)
            assert (status, body["error"]["code"]) == (503, "replica_lost")
            await picked.shows("a", "skerry_picker_quarantined_requests", 1.0)
            for _ in range(10):
                status, body = await ask(picked, POISON)
                assert (status, body["error"]["code"]) == (422, "request_quarantined")
                assert (await ask(picked, GOOD))[0] == 200
            assert len(mortals.living()) == 2
            await picked.shows("a", "skerry_picker_refused_requests_total", 10.0)
    finally:
        mortals.end()


async def test_a_replica_that_refused_the_connection_is_no_death(tmp_path: Path) -> None:
    mortals = Mortals(tmp_path)
    try:
        async with a_picked_world(tmp_path) as picked:
            replicas = [mortals.start(name) for name in ("a1", "a2", "a3")]
            # Well by its health, and nobody listens where requests go: it is tried first.
            closed = replace(replicas[0], name="a0", http_port=free_port(HOST))
            await picked.publish("a", a_model_of(closed, *replicas))
            status, body = await ask(picked, POISON)
            assert (status, body["error"]["code"]) == (503, "replica_lost")
            matched = 'skerry_picker_log_entries_total{outcome="matched"}'
            await picked.shows("a", matched, 1.0)
            assert len(mortals.living()) == 2
            assert (await picked.metrics("a"))["skerry_picker_quarantined_requests"] == 0.0
    finally:
        mortals.end()


async def test_without_the_picker_one_request_still_costs_two_engines_at_most(
    tmp_path: Path,
) -> None:
    mortals = Mortals(tmp_path)
    try:
        async with a_picked_world(tmp_path) as picked:
            replicas = [mortals.start(name) for name in ("a1", "a2", "a3")]
            await picked.publish("a", a_model_of(*replicas))
            assert (await ask(picked, GOOD))[0] == 200
            await picked.pickers["a"].kill()
            status, body = await ask(picked, POISON)
            assert (status, body["error"]["code"]) == (503, "replica_lost")
            assert len(mortals.living()) >= 1

            # Of three that looked well two are dead: one retry may meet both, until that is seen.
            async def is_answered() -> bool:
                return (await ask(picked, GOOD))[0] == 200

            await eventually(is_answered)
    finally:
        mortals.end()
