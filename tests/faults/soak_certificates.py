"""Certificates that live a minute, under load: `make soak-certificates SECONDS=600 RATE=200`.

Everybody of a fleet of two planes gets a new certificate at half of the life of the one before.
Half of the requests come in at the plane that has no replica, whose gateway asks the other's over
mTLS. Every minute an agent is ended: its link is made anew with the certificates of that moment;
every second a connection to each peer port is. Long streams are open from before the first renewal
until after the last. What was found is appended, dated, to benchmarks/results/soak.json;
docs/reliability.md shows it. Exit 1 when a request failed or a link was lost by itself.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from skerry.client.gateways import Request, RequestKind, RequestOutcome, Result
from skerry.client.inference import InferenceClient
from skerry.client.load import run_load
from skerry.client.load_ledger import Ledger, RequestRecord
from skerry.client.load_plan import LoadPlan
from skerry.client.load_summary import summarise
from skerry.client.transport import NetworkTransport
from skerry.plumbing.ids import SystemIds
from tests.faults.certificates import LINK_UP, LONG, ShortLived, a_short_lived_fleet
from tests.faults.fleet import CLOCK, SERVED
from tests.faults.load import DEADLINE_SECONDS, MIX, OneTry
from tests.faults.soak import keep, machine

CUT_SECONDS = 60.0
STREAMS = 4  # at each gateway
_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How long, how much, and how short a life."""

    seconds: float
    rate: float
    life_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What became of the load; `spilled` were answered by a plane other than they came in at.

    `links_cut` were by our own ending of an agent, `links_made` are what followed and the first
    ones; `links_lost` nobody meant. `peer_handshakes` are a stranger's with a renewed certificate,
    `gateway_handshakes` those that the gateway without replicas made with its peer.
    `ended_refused`: a certificate that was not renewed opened its peer's port first, and not after.
    """

    date: str
    seconds: float
    rate_per_second: float
    life_seconds: float
    renewals: int
    requests: int
    failed: int
    spilled: int
    streams: int
    streams_broken: int
    p99_seconds: float
    peer_handshakes: int
    peer_handshakes_failed: int
    gateway_handshakes: int
    links_cut: int
    links_made: int
    links_lost: int
    ended_refused: bool
    errors: tuple[str, ...]
    machine: str

    @property
    def holds(self) -> bool:
        """Say whether nobody noticed, and it was so that somebody could have."""
        unnoticed = not (
            self.failed or self.streams_broken or self.peer_handshakes_failed or self.links_lost
        )
        was_tried = self.peer_handshakes > 0 and self.gateway_handshakes > 0 and self.links_made > 0
        return (
            unnoticed
            and was_tried
            and self.ended_refused
            and self.spilled > 0
            and self.renewals > 2
        )


async def soak(root: Path, asked: Asked) -> Renewed:
    """Return what became of a steady load while everybody's certificates were renewed."""
    async with a_short_lived_fleet(root, asked.life_seconds) as fleet:
        fleet.renew()
        kept = fleet.keep_one()
        taken = await fleet.takes(kept)
        before = await fleet.gateway_handshakes()
        # While it started an agent may have been there before the control plane was.
        lost = fleet.told("event=link.lost")
        ledger = Ledger(CLOCK)
        streams = await _load(fleet, asked, ledger)
        await fleet.links_are_back()
        summary = summarise(ledger.records)
        broken = [one for one in streams if one.result is not Result.OK]
        return Renewed(
            date=CLOCK.now().strftime("%Y-%m-%d"),
            seconds=asked.seconds,
            rate_per_second=asked.rate,
            life_seconds=asked.life_seconds,
            renewals=fleet.renewals,
            requests=summary.requests,
            failed=summary.requests - summary.ok,
            spilled=len(_spilled(ledger.records)),
            streams=len(streams),
            streams_broken=len(broken),
            p99_seconds=round(summary.e2e_p99 or 0.0, 3),
            peer_handshakes=fleet.handshakes,
            peer_handshakes_failed=fleet.refused,
            gateway_handshakes=await fleet.gateway_handshakes() - before,
            links_cut=fleet.cuts,
            links_made=fleet.told(LINK_UP),
            links_lost=fleet.told("event=link.lost") - lost,
            ended_refused=taken and not await fleet.takes(kept),
            errors=_errors(ledger.records, broken),
            machine=machine(),
        )


async def _load(fleet: ShortLived, asked: Asked, ledger: Ledger) -> list[RequestOutcome]:
    """Send the load beside the renewals; return what became of the streams that saw all of it."""
    plan = LoadPlan(
        model=SERVED,
        rate_per_second=asked.rate,
        seconds=asked.seconds,
        mix=MIX,
        max_tokens=_TOKENS,
        deadline_seconds=DEADLINE_SECONDS,
    )
    async with NetworkTransport(CLOCK) as transport, asyncio.TaskGroup() as group:
        client = InferenceClient(fleet.gateways, OneTry(transport), CLOCK, SystemIds(CLOCK))
        streams = [
            group.create_task(_stream(client, gateway, asked.seconds))
            for gateway in range(len(fleet.gateways))
            for _ in range(STREAMS)
        ]
        beside = [
            group.create_task(work)
            for work in (
                fleet.renew_for_ever(),
                fleet.knock_for_ever(),
                fleet.cut_for_ever(min(CUT_SECONDS, asked.seconds / 3)),
            )
        ]
        await run_load(plan, client, ledger, CLOCK, asyncio.Event())
        await asyncio.wait(streams)
        for task in beside:
            task.cancel()
    return [task.result() for task in streams]


async def _stream(client: InferenceClient, gateway: int, seconds: float) -> RequestOutcome:
    """Return what became of a stream of a token a second, asked for at one gateway."""
    request = Request(
        kind=RequestKind.CHAT_STREAM,
        model=LONG,
        prompt="Tell me a long story.",
        max_tokens=int(seconds),
        ignore_eos=True,
    )
    return await client.send(request, gateway, deadline_seconds=2 * seconds + DEADLINE_SECONDS)


def _errors(records: Sequence[RequestRecord], broken: Sequence[RequestOutcome]) -> tuple[str, ...]:
    told = [(one.cause, one.error) for one in records] + [(one.cause, one.error) for one in broken]
    return tuple(sorted({f"{cause}: {error}" for cause, error in told if error}))


def _spilled(records: Sequence[RequestRecord]) -> list[RequestRecord]:
    return [one for one in records if one.plane and one.plane != one.gateway]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, keep what was found, and say by the exit code whether it held."""
    parser = argparse.ArgumentParser(prog="make soak-certificates", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--life", type=float, default=60.0, help="of a certificate, in seconds")
    told = parser.parse_args(argv)
    asked = Asked(seconds=told.seconds, rate=told.rate, life_seconds=told.life)
    # As Ctrl-C: the fleet ends in order.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with tempfile.TemporaryDirectory(prefix="skerry-certificates-") as folder:
        found = asyncio.run(soak(Path(folder) / "fleet", asked))
    keep("certificates", found, holds=found.holds)
    print(json.dumps({**asdict(found), "holds": found.holds}, indent=1))
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
