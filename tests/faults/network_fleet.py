"""A fleet whose control plane and planes are hosts of their own, and the paths between them.

The same programs as under `skerry up`, each started in the namespace of its host. Nobody starts
them again: what is cut here is the network, and nothing dies.
"""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.parts import start_part
from skerry.cli.supervisor.preparation import Choices, prepare
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.supervisor.stopping import stop_fleet
from skerry.client.gateways import Gateway
from skerry.client.operator import AsyncOperatorClient
from skerry.client.rows import PlaneRow
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord
from tests.faults.fleet import CLOCK, PLANES, REPLICAS, SERVED, WAIT_SECONDS_MAX, a_deployment
from tests.faults.network import Network
from tests.faults.proxy import a_proxy, dial

CONTROL_PLANE = "cp"
SMALL_DISK_PLANE = "onprem-fra"  # of the first three of `skerry up`
_LOOK_SECONDS = 0.1
_PARTS = (Role.AGENT, Role.FRONT, Role.PICKER, Role.GATEWAY)


@dataclass
class NetworkFleet:
    """The fleet; `planes` are the hosts' names, that with two replicas first."""

    directory: DataDirectory
    layout: Layout
    network: Network
    operator: AsyncOperatorClient
    http: aiohttp.ClientSession
    continuation: bool = False
    shape: dict[str, int] = field(default_factory=dict)
    processes: dict[PartKey, ProcessRecord] = field(default_factory=dict)

    @property
    def planes(self) -> tuple[str, ...]:
        """Return the planes, that with the most replicas first."""
        names = (plane.name for plane in self.layout.planes)
        return tuple(sorted(names, key=lambda name: (-self.shape.get(name, 0), name)))

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """Return the gateways in the order of `planes`."""
        return tuple(self._gateway(name) for name in self.planes)

    def _gateway(self, name: str) -> Gateway:
        address = f"{self.network.hosts[name]}:{self.layout.plane(name).ports.public}"
        return Gateway(name=name, http=address, grpc=address)

    async def states(self) -> dict[str, PlaneRow]:
        """Return the planes as the control plane judges them."""
        return {row.name: row for row in await self.operator.list_planes()}

    async def placed(self) -> dict[str, int]:
        """Return the replicas placed by plane."""
        rows = await self.operator.list_placements()
        return {row.plane: row.replicas for row in rows if row.replicas}

    def peers_of(self, plane: str) -> dict[str, str]:
        """Return what a plane's agent says of its peers."""
        status = json.loads((self.directory.plane(plane) / "agent.json").read_bytes())
        return dict(status["peers"])

    async def until(self, what: str, look: Callable[[], Awaitable[bool]]) -> float:
        """Look until it is so and return the seconds it took; AssertionError says what did not."""
        started, trouble = CLOCK.monotonic(), ""
        while CLOCK.monotonic() < started + WAIT_SECONDS_MAX:
            try:
                if await look():
                    return CLOCK.monotonic() - started
            except (SkerryError, OSError, KeyError, ValueError) as error:
                trouble = f" ({error!r})"
            await CLOCK.sleep(_LOOK_SECONDS)
        raise AssertionError(f"waited in vain until {what}{trouble}; {self.directory.root}")

    async def mend(self) -> None:
        """Heal the network and wait until all serves as before."""
        self.network.heal()
        await self.until("the fleet is whole", self.is_whole)

    async def is_whole(self) -> bool:
        """Say whether all are connected, placed as at first, and seen to serve by their peers."""
        states, rows = await self.states(), await self.operator.list_placements()
        ready = {row.plane: row.replicas_ready for row in rows if row.replicas}
        if [row.state.value for row in states.values()] != ["connected"] * PLANES:
            return False
        if self.shape and ready != self.shape:
            return False
        if sum(ready.values()) != REPLICAS or len(ready) != PLANES:
            return False
        seen = [self.peers_of(plane) for plane in states]
        return all(set(peers.values()) == {"serving"} for peers in seen) and await self._answer()

    async def _answer(self) -> bool:
        body = {"model": SERVED, "prompt": "hello", "max_tokens": 1}
        for gateway in self.gateways:
            url = f"http://{gateway.http}/v1/completions"
            async with self.http.post(url, json=body) as answer:
                if answer.status != 200:
                    return False
        return True

    async def start(self) -> None:
        """Start every part on its host, gateways as soon as their agents have written for them."""
        self._start(CONTROL_PLANE, PartKey(role=Role.CONTROL_PLANE))
        keys = [
            PartKey(role=role, plane=plane.name) for plane in self.layout.planes for role in _PARTS
        ]

        async def all_started() -> bool:
            for key in keys:
                if key not in self.processes:
                    self._start(key.plane, key)
            return len(self.processes) == len(keys) + 1

        await self.until("every part is started", all_started)

    def _start(self, host: str, key: PartKey) -> None:
        record = self.network.inside(host, partial(start_part, self.directory, key))
        if record is not None:
            self.processes[key] = record

    async def deploy(self) -> None:
        """Price the pools, apply the deployment and wait until it serves."""

        async def is_connected() -> bool:
            states = await self.states()
            pools = await self.operator.list_pools()
            return len(pools) == PLANES == len(states) and all(
                row.state.value == "connected" for row in states.values()
            )

        await self.until("every plane is connected", is_connected)
        for pool in await self.operator.list_pools():
            terms = replace(pool.terms, price_per_accelerator_hour=0.03)
            await self.operator.set_pool_terms(pool.name, terms)
        await self.operator.apply(a_deployment(continuation=False))
        await self.until("the fleet is whole", self.is_whole)
        self.shape = await self.placed()


@contextlib.asynccontextmanager
async def a_network_fleet(root: Path, network: Network) -> AsyncIterator[NetworkFleet]:
    """Yield a fleet that serves; nothing of it is left at the end."""
    directory = DataDirectory(root)
    layout = prepare(directory, PLANES, "simulated", CLOCK.now(), os.environ, Choices(keys=False))
    _rewrite(directory, layout, network)
    # The operator API is plaintext and on the loopback of its own host alone.
    port = layout.control_plane.operator
    to_operator = partial(network.inside, CONTROL_PLANE, partial(dial, "127.0.0.1", port))
    async with a_proxy(to_operator) as way_in, contextlib.AsyncExitStack() as stack:
        context = replace(fleet_context(directory, layout), endpoints=(way_in.address,))
        client = AsyncOperatorClient(context, SystemIds(CLOCK), "user:test")
        operator = await stack.enter_async_context(client)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        fleet = NetworkFleet(directory, layout, network, operator, http)
        try:
            await fleet.start()
            await fleet.deploy()
            yield fleet
        finally:
            network.heal()
            await stop_fleet(directory, fleet.processes, CLOCK)


def _rewrite(directory: DataDirectory, layout: Layout, network: Network) -> None:
    """Give everybody the address of their host."""
    host, ports = network.add(CONTROL_PLANE), layout.control_plane
    path = directory.control_plane / "settings.json"
    _change(path, {"link_address": f"{host}:{ports.link}"})
    for plane in layout.planes:
        path = directory.plane(plane.name) / "settings.json"
        address = network.add(plane.name)
        gateway = json.loads(path.read_bytes())["gateway"]
        # Envoy's admin port and all that a plane keeps to itself stay on its own loopback.
        listens = {**gateway, "host": "0.0.0.0", "advertised_host": address}
        _change(path, {"control_planes": [f"{host}:{ports.link}"], "gateway": listens})


def _change(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}), encoding="utf-8")
