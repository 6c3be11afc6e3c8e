"""Looks at a fleet a few times a second while a drill runs: the operator API, and this host.

`runner` keeps one beside the load. A look that has no answer is a sample, too.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from skerry.cli.drills.catalogue import Drill, FleetFacts, Hurts, Supervised, Target
from skerry.cli.drills.samples import Sample
from skerry.cli.supervisor.fleet_file import read_fleet
from skerry.cli.supervisor.layout import DataDirectory
from skerry.client.control_planes import ControlPlaneRole
from skerry.client.load_ledger import Ledger
from skerry.client.operator import AsyncOperatorClient
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError

LOOK_SECONDS = 0.2
# Without an answer by then the control plane is away: paused, it does not refuse.
ANSWER_SECONDS_MAX = 1.5
# The longest drill, its fault and its restoring: a look more often would not be kept.
SAMPLES_MAX = 20_000
_LINKED = "linked"
_RETURNING = (Hurts.AGENT, Hurts.GATEWAY, Hurts.ENGINE)


@dataclass(slots=True)
class Observer:
    """Takes samples of a fleet; of the target, whether what was `dead` runs again."""

    directory: DataDirectory
    operator: AsyncOperatorClient
    http: aiohttp.ClientSession
    ledger: Ledger
    clock: Clock
    drill: Drill
    target: Target
    dead: frozenset[int] = frozenset()
    samples: list[Sample] = field(default_factory=list)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            sample = await self.look()
            if len(self.samples) < SAMPLES_MAX:
                self.samples.append(sample)
            await self.clock.sleep(LOOK_SECONDS)

    async def look(self) -> Sample:
        """Return what is seen now."""
        linked = frozenset(
            plane["name"]
            for plane in read_fleet(self.directory.fleet)["planes"]
            if link_state(self.directory, plane["name"]) == _LINKED
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                planes = await self.operator.list_planes()
                placements = await self.operator.list_placements()
                leader = await leading(self.operator)
        except (SkerryError, TimeoutError):
            back = await self._is_target_back(read_fleet(self.directory.fleet))
            return Sample(at=self.ledger.now(), answered=False, linked=linked, is_target_back=back)
        back = await self._is_target_back(read_fleet(self.directory.fleet))
        rows = [row for row in placements if row.replicas or row.replicas_ready]
        return Sample(
            at=self.ledger.now(),
            answered=True,
            states={row.name: row.state for row in planes},
            placed={(row.deployment, row.pool): row.replicas for row in rows},
            ready={(row.deployment, row.pool): row.replicas_ready for row in rows},
            cost_per_hour=sum(row.cost_per_hour for row in placements),
            linked=linked,
            is_target_back=back,
            leader=leader,
        )

    async def _is_target_back(self, fleet: Mapping[str, Any]) -> bool | None:
        # Before anything is dead there is nothing that could be back.
        if not self.dead or self.drill.pauses or self.drill.hurts not in _RETURNING:
            return None
        plane = next(one for one in fleet["planes"] if one["name"] == self.target.planes[0])
        match self.drill.hurts:
            case Hurts.AGENT:
                pid = plane["agent_pid"]
                status = agent_status(self.directory, plane["name"])
                is_linked = status.get("link", {}).get("state") == _LINKED
                return pid not in (None, *self.dead) and status.get("pid") == pid and is_linked
            case Hurts.GATEWAY:
                is_new = plane["gateway_pid"] not in (None, *self.dead)
                return is_new and await self._answers(plane["gateway_http"])
            case _:
                return any(
                    one["name"] == self.target.replica
                    and one["state"] == "ready"
                    and one["engine_pid"] not in (None, *self.dead)
                    for one in plane["replicas"]
                )

    async def _answers(self, gateway: str) -> bool:
        try:
            async with self.http.get(f"http://{gateway}/health") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


async def read_facts(directory: DataDirectory, operator: AsyncOperatorClient) -> FleetFacts:
    """Return what speaks for or against a drill; Unavailable while no control plane answers."""
    fleet = read_fleet(directory.fleet)
    return FleetFacts(
        planes=await operator.list_planes(),
        deployments=await operator.list_deployments(),
        losses=await operator.survive(),
        supervised=tuple(_supervised(plane) for plane in fleet["planes"]),
        control_planes=tuple(one["name"] for one in fleet["control_planes"]),
        leader=await leading(operator),
    )


async def leading(operator: AsyncOperatorClient) -> str:
    """Return the name of the control plane that leads; empty while none does."""
    rows = await operator.list_control_planes()
    return next((row.name for row in rows if row.role is ControlPlaneRole.LEADING), "")


def engine_pids(fleet: Mapping[str, Any]) -> dict[str, int]:
    """Return the engines' process ids by PLANE/REPLICA."""
    return {
        f"{plane['name']}/{one['name']}": one["engine_pid"] or 0
        for plane in fleet["planes"]
        for one in plane["replicas"]
    }


def is_whole(fleet: Mapping[str, Any]) -> bool:
    """Say whether every part of every plane and every control plane runs."""
    return all(one["pid"] for one in fleet["control_planes"]) and all(
        not _supervised(plane).missing for plane in fleet["planes"]
    )


def agent_status(directory: DataDirectory, plane: str) -> dict[str, Any]:
    """Return an agent's status file; nothing of one that cannot be read."""
    try:
        status = json.loads((directory.plane(plane) / "agent.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def link_state(directory: DataDirectory, plane: str) -> str:
    """Return the state of an agent's session as the agent tells it; empty when it does not."""
    link = agent_status(directory, plane).get("link")
    return str(link.get("state", "")) if isinstance(link, dict) else ""


def _supervised(plane: Mapping[str, Any]) -> Supervised:
    # The relay runs only where a deployment's streams are to be continued.
    parts = ("agent", "gateway", "front", "picker")
    return Supervised(
        name=plane["name"],
        cloud=plane["cloud"],
        region=plane["region"],
        replicas=tuple(one["name"] for one in plane["replicas"] if one["state"] == "ready"),
        missing=tuple(part for part in parts if not plane[f"{part}_pid"]),
    )
