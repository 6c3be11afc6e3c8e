"""The long runs: `make soak`, an hour without a control plane, a thousand pauses of a leader, ten
thousand kills of who writes a plane's state.

`make soak SECONDS=300 PAUSES=20 KILLS=500` is a short one. What was found is appended, dated, to
benchmarks/results/soak.json; docs/reliability.md shows it. Exit 1 when a promise broke.
"""

import argparse
import asyncio
import itertools
import json
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from skerry.cli.supervisor.restarts import Role
from skerry.plumbing.files import write_atomically
from tests.contract.test_desired_state_killed import kill_writers
from tests.faults.fleet import CLOCK, FaultFleet, a_fault_fleet
from tests.faults.load import Load, Outcome, Through, under_load
from tests.integration.leading_world import LedFleet, a_led_fleet
from tests.integration.test_takeover import TAKEOVER_SECONDS_MAX, writing

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
MIB = 1024 * 1024
# Python that fills its caches in the first minutes grows; what leaks grows for ever.
SETTLED_SHARE = 0.1
_ROLES = (Role.AGENT, Role.FRONT, Role.GATEWAY, Role.PICKER, Role.RELAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """Load while the control plane was gone, with an agent and a gateway killed once each.

    Memory is of the home plane's five processes; each restart lets go of some.
    """

    date: str
    seconds: float
    rate_per_second: float
    requests: int
    failed: int
    broken: int
    engines_started_again: int
    first_success_after_gateway_seconds: float
    worst_wait_seconds: float
    memory_mib_early: float
    memory_mib_late: float
    machine: str

    @property
    def holds(self) -> bool:
        """Say whether nobody noticed."""
        return self.failed == self.broken == self.engines_started_again == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """A leader stopped at random moments, with an operator writing all the time."""

    date: str
    pauses: int
    seed: int
    writes: int
    stale_writes: int
    slowest_takeover_seconds: float
    machine: str

    @property
    def holds(self) -> bool:
        """Say whether no old leader's write had an effect, and a new one led in time."""
        return self.stale_writes == 0 and self.slowest_takeover_seconds <= TAKEOVER_SECONDS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """Writers of a plane's desired state killed at any moment; `lost` tells the first loss."""

    date: str
    kills: int
    seed: int
    acknowledged: int
    lost: str
    machine: str

    @property
    def holds(self) -> bool:
        """Say whether what was acknowledged loaded after every kill."""
        return not self.lost


async def without_control_plane(root: Path, seconds: float, rate: float) -> Away:
    """Return what became of a steady load in that time."""
    async with a_fault_fleet(root) as fleet:
        await fleet.mend()
        await fleet.route(continuation=True)
        await fleet.without_control_plane()
        engines = _engines(fleet)
        memory: list[float] = []
        back = 0.0

        async def fault(load: Load) -> None:
            nonlocal back
            await _sleep_until(load, seconds * SETTLED_SHARE)
            memory.append(_memory_mib(fleet))
            await _sleep_until(load, seconds / 3)
            fleet.kill([fleet.part(fleet.home, Role.AGENT)])
            await _sleep_until(load, 2 * seconds / 3)
            fleet.kill([fleet.part(fleet.home, Role.GATEWAY)])
            killed = load.since_fault()
            await fleet.until("the gateway is back", fleet.home_answers)
            back = load.since_fault() - killed
            await _sleep_until(load, seconds)
            memory.append(_memory_mib(fleet))

        found: Outcome = await under_load(
            fleet, fault, seconds=seconds + 60, through=Through.CLIENT, rate=rate
        )
        for error in found.errors:
            print(f"  {error}", file=sys.stderr)
        return Away(
            date=CLOCK.now().strftime("%Y-%m-%d"),
            seconds=seconds,
            rate_per_second=rate,
            requests=found.requests,
            failed=found.failed + found.shed,
            broken=found.broken,
            engines_started_again=sum(
                engines[name] != pid for name, pid in _engines(fleet).items()
            ),
            first_success_after_gateway_seconds=round(back, 3),
            worst_wait_seconds=round(found.worst_wait_seconds, 3),
            memory_mib_early=round(memory[0], 1),
            memory_mib_late=round(memory[1], 1),
            machine=machine(),
        )


async def paused_leaders(root: Path, pauses: int, seed: int) -> Paused:
    """Return what came of pausing whoever leads, again and again."""
    async with a_led_fleet(root) as fleet:
        fleet.start_all()
        await fleet.until_linked_to((await fleet.leader()).holder)
        chance, slowest = random.Random(seed), 0.0
        async with writing(fleet) as done:
            for number in range(pauses):
                slowest = max(slowest, await _pause(fleet, chance))
                if number % 10 == 9:
                    print(f"  {number + 1} pauses, slowest takeover {slowest:.2f} s", flush=True)
        return Paused(
            date=CLOCK.now().strftime("%Y-%m-%d"),
            pauses=pauses,
            seed=seed,
            writes=len(done),
            stale_writes=await _stale(fleet),
            slowest_takeover_seconds=round(slowest, 3),
            machine=machine(),
        )


def killed_writers(root: Path, kills: int, seed: int) -> Killed:
    """Return what came of killing whoever writes a plane's desired state, again and again."""
    acknowledged, lost = 0, ""
    try:
        acknowledged = kill_writers(root / "desired" / "desired.skerry", kills, seed)
    except AssertionError as error:
        lost = str(error)
    return Killed(
        date=CLOCK.now().strftime("%Y-%m-%d"),
        kills=kills,
        seed=seed,
        acknowledged=acknowledged,
        lost=lost,
        machine=machine(),
    )


async def _pause(fleet: LedFleet, chance: random.Random) -> float:
    """Pause the leader until another one leads, a moment longer; return the seconds that took."""
    old = await fleet.leader()
    await CLOCK.sleep(chance.uniform(0.0, 1.0))
    before = fleet.log_of(old.holder).count("control-plane.deposed")
    fleet.signal(old.holder, signal.SIGSTOP)
    paused_at = CLOCK.monotonic()
    new = await fleet.leader(old.epoch)
    taken = CLOCK.monotonic() - paused_at
    await CLOCK.sleep(chance.uniform(0.0, 1.0))
    fleet.signal(old.holder, signal.SIGCONT)
    await fleet.until(
        lambda: fleet.log_of(old.holder).count("control-plane.deposed") > before,
        f"{old.holder} steps down by itself",
    )
    await fleet.until_linked_to(new.holder)
    return taken


async def _stale(fleet: LedFleet) -> int:
    """Return writes of a lower epoch after a higher one: in the database, and taken by planes."""
    found = await fleet.stale_writes()
    for plane in fleet.layout.planes:
        epochs = fleet.accepted(plane.name)
        found += sum(late < early for early, late in itertools.pairwise(epochs))
    return found


async def _sleep_until(load: Load, moment: float) -> None:
    await CLOCK.sleep(max(0.0, moment - load.since_fault()))


def _engines(fleet: FaultFleet) -> dict[str, int]:
    return {one.name: one.engine_pid for plane in fleet.shape for one in fleet.replicas(plane)}


def _memory_mib(fleet: FaultFleet) -> float:
    pids = [fleet.part(fleet.home, role).pid for role in _ROLES]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / MIB


def machine() -> str:
    """Return what this ran on, and how busy that was over 5 minutes, in words."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores, {memory:.0f} GiB, load {psutil.getloadavg()[1]:.0f}"


def keep(kind: str, row: Any, *, holds: bool) -> None:
    """Append a result, a dataclass, to the dated ones."""
    kept = json.loads(RESULTS.read_bytes()) if RESULTS.is_file() else {}
    kept.setdefault(kind, []).append({**asdict(row), "holds": holds})
    write_atomically(RESULTS, json.dumps(kept, indent=1).encode() + b"\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that are not left out by a 0."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3_600.0, help="0 leaves this part out")
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--pauses", type=int, default=1_000, help="0 leaves this part out")
    parser.add_argument("--kills", type=int, default=10_000, help="0 leaves this part out")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args(argv)
    # As Ctrl-C: the fleet and its database end in order.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    rows: list[tuple[str, Away | Paused | Killed]] = []
    with tempfile.TemporaryDirectory(prefix="skerry-soak-") as folder:
        if asked.seconds > 0:
            print(f"{asked.seconds:g} s without a control plane, {asked.rate:g} requests a second")
            away = without_control_plane(Path(folder) / "away", asked.seconds, asked.rate)
            rows.append(("away", asyncio.run(away)))
        if asked.pauses > 0:
            print(f"a leader paused {asked.pauses} times")
            paused = paused_leaders(Path(folder) / "led", asked.pauses, asked.seed)
            rows.append(("paused", asyncio.run(paused)))
        if asked.kills > 0:
            print(f"a writer of desired states killed {asked.kills} times")
            rows.append(("killed", killed_writers(Path(folder), asked.kills, asked.seed)))
    for kind, row in rows:
        keep(kind, row, holds=row.holds)
        print(json.dumps(asdict(row), indent=1))
    return 0 if all(row.holds for _, row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
