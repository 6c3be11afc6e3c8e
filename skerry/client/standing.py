"""What a client remembers of its gateways from one request to the next.

`delivery` asks for the order of attempts and tells what came of them; the choices themselves are
pure and in `distance` and `retrying`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from skerry.client.distance import UNKNOWN, Memory, nearest, order_from, order_gateways
from skerry.client.gateways import AttemptFailed, Cause, Gateway
from skerry.client.retrying import RetryBudget
from skerry.client.transport import Transport
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput

# How often distances are measured anew: routes change in minutes, and an idle client costs little.
MEASURE_SECONDS = 10.0
GATEWAYS_MAX = 256
# Gateways times models that are in trouble at once; beyond it the oldest is forgotten.
TROUBLES_MAX = 4096
# Whatever is asked for there would meet the same; all else may be one model's replicas.
_OF_THE_GATEWAY = frozenset({Cause.CONNECT, Cause.HUNG, Cause.PROTOCOL})


class Standing:
    """The memories of several gateways, the one in use, and how many rounds may be repeated."""

    def __init__(self, gateways: Sequence[Gateway], transport: Transport, clock: Clock) -> None:
        """Know the gateways, and nothing of them."""
        if not gateways:
            raise InvalidInput("no gateway is known; name one with --gateway HOST:PORT")
        if len(gateways) > GATEWAYS_MAX or len({g.name for g in gateways}) < len(gateways):
            raise InvalidInput(f"at most {GATEWAYS_MAX} gateways, each name once, please")
        self.gateways = tuple(gateways)
        self.memories: dict[str, Memory] = {}
        self._transport = transport
        self._clock = clock
        self._troubles: dict[tuple[str, str], Memory] = {}  # by gateway and model
        self.measured = asyncio.Event()
        self._current = ""
        self._budget = RetryBudget()

    def order(self, preferred: int | None, model: str = "") -> tuple[Gateway, ...]:
        """Return the gateways to try, in order: the nearest first, or from the preferred one on.

        Those that are in trouble with the model come last, as those do that are in trouble at all.
        """
        now = self._clock.monotonic()
        memories = self._seen_by(model)
        if preferred is not None:
            return order_from(self.gateways, preferred, memories, now)
        # What one model meets must not move the others: the one in use is chosen without it.
        self._current = nearest(self.gateways, self.memories, self._current, now)
        return order_gateways(self.gateways, memories, self._current, now)

    def answered(self, gateway: Gateway, model: str) -> None:
        """Remember that a request for a model was answered there."""
        self.memories[gateway.name] = self._of(gateway).lived()
        self._troubles.pop((gateway.name, model), None)
        self._budget = self._budget.after_success()

    def failed(self, gateway: Gateway, error: AttemptFailed, model: str = "") -> None:
        """Remember a failure, if it is the gateway's own, or its replicas' of one model."""
        if not error.cool_down or not error.elsewhere:
            return
        now = self._clock.monotonic()
        wait = error.retry_after_seconds or 0.0
        if not model or error.cause in _OF_THE_GATEWAY:
            self.memories[gateway.name] = self._of(gateway).failed(now, wait)
            return
        before = self._troubles.pop((gateway.name, model), UNKNOWN)
        self._troubles[gateway.name, model] = before.failed(now, wait)
        if len(self._troubles) > TROUBLES_MAX:
            del self._troubles[next(iter(self._troubles))]  # the oldest

    def take_round(self) -> bool:
        """Say whether one more round over the gateways may be made, and count it."""
        if not self._budget.allows_retry:
            return False
        self._budget = self._budget.after_retry()
        return True

    async def measure(self) -> None:
        """Probe every gateway once, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for gateway in self.gateways:
                group.create_task(self._measure(gateway))

    async def keep_measuring(self) -> None:
        """Measure now and every ten seconds, for ever; with one gateway there is no choice."""
        while len(self.gateways) > 1:
            await self.measure()
            self.measured.set()
            await self._clock.sleep(MEASURE_SECONDS)

    async def _measure(self, gateway: Gateway) -> None:
        try:
            seconds = await self._transport.probe(gateway)
        except AttemptFailed as error:
            self.failed(gateway, error)
        else:
            self.memories[gateway.name] = self._of(gateway).answered(seconds)

    def _seen_by(self, model: str) -> dict[str, Memory]:
        """Return the memories with the model's own troubles in them."""
        seen = dict(self.memories)
        for gateway in self.gateways:
            trouble = self._troubles.get((gateway.name, model))
            if trouble is not None:
                memory = self._of(gateway)
                until = max(memory.cooling_until, trouble.cooling_until)
                seen[gateway.name] = replace(memory, cooling_until=until)
        return seen

    def _of(self, gateway: Gateway) -> Memory:
        return self.memories.get(gateway.name, UNKNOWN)
