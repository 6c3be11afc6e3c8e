"""A whole fleet with a plane on Ray beside one without: `skerry up`, two engines, both gateways.

The one has two Ray nodes of this host with two simulated replicas each, the other llama.cpp.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skerry.plumbing.ports import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.ray_faults,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

ROOT = Path(__file__).resolve().parents[2]
ON_RAY, OTHER = "aws-us-east-1", "gcp-europe-west4"
NODES = ("n1", "n2")
# Of the four accelerators of a node: two replicas fill it.
SIMULATED = """
apiVersion: skerry/v1
kind: Deployment
metadata: {name: pretend}
spec:
  baseModel: {uri: "simulated://pretend", servedName: pretend}
  engine: {name: simulated, contextTokens: 512, concurrentRequests: 4}
  resources: [{accelerator: cpu, count: 2, hostMemory: 64MiB}]
  scaling: {minReplicas: 4, maxReplicas: 4}
  placement: {clouds: [aws]}
"""
LLAMACPP = """
apiVersion: skerry/v1
kind: Deployment
metadata: {name: real}
spec:
  baseModel: {uri: "builtin://skerry-tiny", servedName: real}
  engine: {name: llamacpp, contextTokens: 512, concurrentRequests: 2}
  resources: [{accelerator: cpu, count: 1, hostMemory: 256MiB}]
  scaling: {minReplicas: 1, maxReplicas: 1}
  placement: {clouds: [gcp]}
"""
READY_SECONDS_MAX = 300  # Ray takes 15 s on a quiet machine, and minutes on a busy one
COMMAND_SECONDS_MAX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet in a directory of its own."""

    directory: Path

    def run(self, *arguments: str) -> str:
        """Return what a `skerry` command prints; it must end with 0."""
        told = subprocess.run(
            [str(ROOT / ".venv/bin/skerry"), *arguments],
            env={**os.environ, "SKERRY_CONFIG": str(self.directory / "config.yaml")},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert told.returncode == 0, f"skerry {arguments}:\n{told.stdout}\n{told.stderr}"
        return told.stdout

    def gateway(self, plane: str) -> str:
        """Return a plane's HTTP address for users."""
        fleet = json.loads((self.directory / "fleet.json").read_text())
        return str(next(one["gateway_http"] for one in fleet["planes"] if one["name"] == plane))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(directory=tmp_path / "fleet")
    # What a plane's settings say of Ray is kept: two nodes in place of one.
    settings = fleet.directory / "planes" / ON_RAY / "settings.json"
    settings.parent.mkdir(parents=True)
    nodes = [{"name": name, "pool": "cpu"} for name in NODES]
    settings.write_text(json.dumps({"ray": {"port": free_port("127.0.0.1"), "nodes": nodes}}))
    place = ("--data-dir", str(fleet.directory))
    try:
        fleet.run(
            "up", "--planes", "2", "--runtime", f"{ON_RAY}=ray", *place, "--no-keys", "--detach"
        )
        yield fleet
    finally:
        fleet.run("down", *place)


async def ask(address: str, model: str) -> dict[str, Any]:
    """Return a gateway's answer to a completion."""
    body = {"model": model, "prompt": "The sea is", "max_tokens": 8}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"http://{address}/v1/completions", json=body) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer


def test_a_plane_of_two_ray_nodes_and_one_with_llamacpp_serve_side_by_side(
    fleet: Fleet, tmp_path: Path
) -> None:
    for name, text in (("pretend", SIMULATED), ("real", LLAMACPP)):
        (tmp_path / f"{name}.yaml").write_text(text)
        fleet.run("apply", "-f", str(tmp_path / f"{name}.yaml"), "--wait", str(READY_SECONDS_MAX))
    rows = json.loads(fleet.run("get", "replicas", "-o", "json"))
    placed = sorted((row["plane"], *row["observed"]["nodes"]) for row in rows)
    assert [one[:2] for one in placed if one[0] == ON_RAY] == [
        (ON_RAY, name) for name in NODES for _ in range(2)
    ]
    assert [one[0] for one in placed if one[0] != ON_RAY] == [OTHER]
    assert {row["observed"]["state"] for row in rows} == {"ready"}
    # Each through its own plane's gateway.
    for plane, model in ((ON_RAY, "pretend"), (OTHER, "real")):
        answer = asyncio.run(ask(fleet.gateway(plane), model))
        assert answer["usage"]["completion_tokens"] > 0, answer
