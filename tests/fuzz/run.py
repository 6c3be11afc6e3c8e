"""Seeded nonsense at every listener of a real control plane and a real plane: `make fuzz`.

`make fuzz INPUTS=100000 SEED=7`; the same seed sends the same. `LISTENER="operator gRPC"` alone,
and with `FROM=1234 INPUTS=1` one input again. Writes benchmarks/results/fuzz.json and
docs/benchmarks/fuzz.md; exit 1 when anything was found, or when others waited for too long.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import psutil

from control_plane.api.serving import operator_services
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.files import write_atomically
from tests.fuzz.calls import GatewayCalls, OperatorCalls, methods_of
from tests.fuzz.doors import Dashboard, JoinPort, KeyedGateway
from tests.fuzz.fleet import DEPLOYMENT, SERVED, STEADY, Fuzzed, a_control_plane, a_plane
from tests.fuzz.http_inputs import GatewayHttp, HttpApi
from tests.fuzz.links import PlaneLinks
from tests.fuzz.page import P99_MS_MAX, write_page
from tests.fuzz.parsers import Parsers
from tests.fuzz.tally import Outcome, Tally, Witnessed
from tests.fuzz.witness import a_witness

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "fuzz.json"
CLOCK = SystemClock()
INPUT_SECONDS_MAX = 60.0  # past it an input hangs, and that is a finding
QUIET_SECONDS = 5.0
# Of all inputs; Hellos and certificates have their rate, an answer of a gateway five processes.
SHARES = {
    "parsers": 0.18,
    "gateway HTTP": 0.11,
    "gateway gRPC": 0.11,
    "keyed gateway": 0.03,
    "operator gRPC": 0.30,
    "operator HTTP": 0.13,
    "planes' link": 0.09,
    "dashboard": 0.04,
    "join port": 0.01,
}
# Names that there are, and filters and orders that could be.
WORDS = (
    DEPLOYMENT,
    "demo",
    STEADY,
    f"{STEADY}--cpu",
    "cpu",
    "default",
    "projects/default",
    f"projects/default/planes/{STEADY}",
    f"projects/default/deployments/{DEPLOYMENT}",
    f"projects/default/pools/{STEADY}--cpu",
    "simulated://tiny",
    "simulated",
    "eu-1",
    'name = "chat"',
    "name desc",
    "user:ana",
    "H100-80G",
)


class Listener(Protocol):
    """Who sends inputs to one listener."""

    name: str
    concurrency: int

    async def send(self, number: int) -> Outcome:
        """Send the input of that number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How many inputs of which seed; `listener` alone where one is named."""

    inputs: int
    seed: int
    listener: str = ""
    first: int = 0

    def count(self, name: str) -> int:
        """Return how many inputs the listener gets."""
        if self.listener:
            return self.inputs if self.listener == name else 0
        return round(self.inputs * SHARES[name])


async def send_all(listener: Listener, count: int, first: int = 0) -> Tally:
    """Send the inputs, so many at a time as the listener takes, and count what came of them."""
    tally, numbers = Tally(listener=listener.name), iter(range(first, first + count))
    began = CLOCK.monotonic()

    async def send_some() -> None:
        for number in numbers:
            try:
                async with asyncio.timeout(INPUT_SECONDS_MAX):
                    tally.note(number, await listener.send(number))
            except TimeoutError:
                finding = f"no answer within {INPUT_SECONDS_MAX:g} s"
                tally.note(number, Outcome(label="(hangs)", finding=finding))
            except OSError as error:
                finding = f"not to be reached: {error}"
                tally.note(number, Outcome(label="(unreachable)", finding=finding))

    async with asyncio.TaskGroup() as group:
        for _ in range(listener.concurrency):
            group.create_task(send_some())
    tally.seconds = CLOCK.monotonic() - began
    return tally


async def fuzz_parsers(asked: Asked, folder: Path) -> list[Tally]:
    """Have every parser read its share."""
    parsers = Parsers(asked.seed, folder)
    count = asked.count(parsers.name)
    return [await send_all(parsers, count, asked.first)] if count else []


async def fuzz_gateway(asked: Asked, folder: Path) -> tuple[list[Tally], dict[str, Witnessed]]:
    """Send to a plane's gateway; return what came of it, and how callers fared before."""
    if not asked.count(GatewayHttp.name) + asked.count(GatewayCalls.name):
        return [], {}
    async with a_plane(folder / "fleet") as fuzzed:
        listeners: list[Listener] = [
            GatewayHttp(fuzzed.gateway, SERVED, asked.seed),
            calls := GatewayCalls(fuzzed.gateway, SERVED, asked.seed),
        ]
        found = await _witnessed(fuzzed, asked, listeners, fuzzed.gateway)
        await calls.close()
        return found


async def fuzz_keyed_gateway(asked: Asked, folder: Path) -> list[Tally]:
    """Send to the gateway of a fleet that asks for keys."""
    if not asked.count(KeyedGateway.name):
        return []
    async with a_plane(folder / "keyed", keys=True) as fuzzed:
        keyed = KeyedGateway(fuzzed.gateway, SERVED, fuzzed.key, asked.seed)
        return (await _witnessed(fuzzed, asked, [keyed]))[0]


async def fuzz_control_plane(
    asked: Asked, folder: Path
) -> tuple[list[Tally], dict[str, Witnessed]]:
    """Send to a control plane's five ports; return what came of it, and how callers fared."""
    names = (OperatorCalls.name, HttpApi.name, PlaneLinks.name, Dashboard.name, JoinPort.name)
    if not sum(asked.count(name) for name in names):
        return [], {}
    async with a_control_plane(folder / "control") as fuzzed, AsyncExitStack() as opened:
        at, seed = fuzzed.layout.control_planes[0], asked.seed
        methods = await asyncio.to_thread(methods_of, at.operator_address, fuzzed.token)
        calls = OperatorCalls(at.operator_address, fuzzed.token, seed, WORDS, methods)
        links = PlaneLinks(at.link_address, fuzzed.tls, seed)
        opened.push_async_callback(calls.close)
        opened.push_async_callback(links.close)
        http = HttpApi(fuzzed.http, fuzzed.token, seed, WORDS, operator_services())
        dashboard = Dashboard(at.dashboard_address, fuzzed.token, seed, WORDS)
        joins = JoinPort(await fuzzed.joinable(), seed)
        opened.push_async_callback(joins.close)
        return await _witnessed(fuzzed, asked, [calls, http, links, dashboard, joins])


async def _witnessed(
    fuzzed: Fuzzed, asked: Asked, listeners: Sequence[Listener], gateway: str = ""
) -> tuple[list[Tally], dict[str, Witnessed]]:
    """Send to each in turn while others call; return this, and how those fared before it."""
    tallies = []
    path = fuzzed.directory.root / "witness"
    fuzzed.new_faults()  # of the start: what is looked for comes of the inputs
    async with a_witness(path, fuzzed.directory.config, gateway) as witness:
        began = CLOCK.monotonic()
        await CLOCK.sleep(QUIET_SECONDS)
        quiet = witness.since(began)
        for listener in listeners:
            if not (count := asked.count(listener.name)):
                continue
            began = CLOCK.monotonic()
            tally = await send_all(listener, count, asked.first)
            tally.witnesses = witness.since(began)
            for fault in fuzzed.new_faults():
                tally.add(f"{listener.name}: {fault}")
            tallies.append(tally)
            print(_line(tally), flush=True)
    return tallies, quiet


def _line(tally: Tally) -> str:
    rate = tally.inputs / max(tally.seconds, 0.001)
    waits = ", ".join(f"{kind} p99 {one.p99_ms:g} ms" for kind, one in tally.witnesses.items())
    counted = sorted(tally.labels.items(), key=lambda item: -item[1])
    labels = ", ".join(f"{label} {count}" for label, count in counted)
    head = f"{tally.listener}: {tally.inputs} inputs, {rate:.0f}/s, {tally.found} findings"
    return "\n  ".join((head, labels, waits, *tally.findings))


async def fuzz(asked: Asked, folder: Path) -> dict[str, object]:
    """Run all that is asked for and return the results."""
    load_before = psutil.getloadavg()[0]
    parsed = await fuzz_parsers(asked, folder)
    for tally in parsed:
        print(_line(tally), flush=True)
    gateway, quiet_gateway = await fuzz_gateway(asked, folder)
    keyed = await fuzz_keyed_gateway(asked, folder)
    control, quiet_control = await fuzz_control_plane(asked, folder)
    tallies = [*parsed, *gateway, *keyed, *control]
    return {
        "date": CLOCK.now().date().isoformat(),
        "seed": asked.seed,
        "inputs": sum(tally.inputs for tally in tallies),
        "machine": f"{psutil.cpu_count()} cores, Python {sys.version.split()[0]}",
        "load_before": round(load_before, 1),
        "load_after": round(psutil.getloadavg()[0], 1),
        "quiet": {
            name: asdict(one)
            for name, one in itertools.chain(quiet_gateway.items(), quiet_control.items())
        },
        "listeners": [asdict(tally) for tally in tallies],
    }


def is_held(results: Mapping[str, object]) -> bool:
    """Say whether nothing was found, and nobody else waited for too long."""
    listeners = results["listeners"]
    assert isinstance(listeners, list)
    return all(
        not tally["found"]
        and all(
            one["p99_ms"] < P99_MS_MAX and not one["failed"] for one in tally["witnesses"].values()
        )
        for tally in listeners
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--listener", default="", choices=("", *SHARES))
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first's number")
    told = parser.parse_args(argv)
    asked = Asked(inputs=told.inputs, seed=told.seed, listener=told.listener, first=told.first)
    with tempfile.TemporaryDirectory(prefix="skerry-fuzz-") as folder:
        results = asyncio.run(fuzz(asked, Path(folder)))
    if not asked.listener:  # what one listener got is no result of all
        write_atomically(RESULTS, json.dumps(results, indent=1).encode() + b"\n")
        write_page(results)
    held = is_held(results)
    print(f"{results['inputs']} inputs of seed {asked.seed}: {'held' if held else 'NOT HELD'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
