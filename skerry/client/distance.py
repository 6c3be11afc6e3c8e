"""Which gateway is the nearest that lives: what was measured of each, and the order to try them.

Pure; `skerry.client.inference` keeps one `Memory` per gateway and tells what it sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from skerry.client.gateways import Gateway
from skerry.plumbing.tasks import Backoff

# A gateway that failed is passed over: first this long, since a supervisor has it back in about a
# second, then longer each time. One request in a while has to find out that it is back.
COOL_DOWN_SECONDS = 2.0
COOL_DOWN_SECONDS_MAX = 30.0
_COOL_DOWN = Backoff(initial_seconds=COOL_DOWN_SECONDS, max_seconds=COOL_DOWN_SECONDS_MAX)
# Of a new measurement in the mean: ten probes forget a route that changed.
_WEIGHT = 0.3
# Another gateway has to be this much nearer, both in part and in seconds, before requests move to
# it: a conversation's cache is where it went, and two regions 2 ms apart must not take turns.
NEARER_PART = 0.25
NEARER_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is known of one gateway; a time to answer in seconds, None until one was measured."""

    seconds: float | None = None
    failures: int = 0  # in a row
    cooling_until: float = 0.0

    def answered(self, seconds: float) -> "Memory":
        """Return what is known after a probe that took so long."""
        before = seconds if self.seconds is None else self.seconds
        mean = before + _WEIGHT * (seconds - before)
        return replace(self, seconds=mean, failures=0, cooling_until=0.0)

    def lived(self) -> "Memory":
        """Return what is known after an answer to a request, which measures no distance."""
        return self if not self.failures else replace(self, failures=0, cooling_until=0.0)

    def failed(self, now: float, retry_after_seconds: float = 0.0) -> "Memory":
        """Return what is known after a failure that is the gateway's own."""
        pause = max(_COOL_DOWN.delay(self.failures, 1.0), min(retry_after_seconds, 30.0))
        return replace(self, failures=self.failures + 1, cooling_until=now + pause)

    def is_cooling(self, now: float) -> bool:
        """Say whether the gateway is passed over for now."""
        return self.cooling_until > now


UNKNOWN = Memory()


def nearest(
    gateways: Sequence[Gateway], memories: Mapping[str, Memory], current: str, now: float
) -> str:
    """Return the gateway to begin with: the current one, until another is clearly nearer.

    One that was never measured is as far as the farthest that was, in the order given.
    """
    ranked = _by_distance(gateways, memories, now)
    best = ranked[0].name
    held = memories.get(current, UNKNOWN)
    if current == best or held.seconds is None or held.is_cooling(now):
        return best
    if current not in {gateway.name for gateway in gateways}:
        return best
    gain = held.seconds - (memories.get(best, UNKNOWN).seconds or held.seconds)
    is_clear = gain > NEARER_SECONDS and gain > NEARER_PART * held.seconds
    return best if is_clear else current


def order_gateways(
    gateways: Sequence[Gateway], memories: Mapping[str, Memory], first: str, now: float
) -> tuple[Gateway, ...]:
    """Return the order of attempts: the chosen one, then by distance, those that failed last.

    A cooling gateway is still tried when every other has failed: it may be all there is.
    """
    ranked = _by_distance(gateways, memories, now)
    head = [g for g in ranked if g.name == first and not _of(memories, g).is_cooling(now)]
    return (*head, *(g for g in ranked if g not in head))


def order_from(
    gateways: Sequence[Gateway], preferred: int, memories: Mapping[str, Memory], now: float
) -> tuple[Gateway, ...]:
    """Return the order of attempts from the preferred one round, those that failed lately last."""
    start = preferred % len(gateways)
    ring = (*gateways[start:], *gateways[:start])
    return tuple(sorted(ring, key=lambda gateway: _of(memories, gateway).is_cooling(now)))


def _by_distance(
    gateways: Sequence[Gateway], memories: Mapping[str, Memory], now: float
) -> list[Gateway]:
    def key(gateway: Gateway) -> tuple[bool, float]:
        memory = _of(memories, gateway)
        seconds = float("inf") if memory.seconds is None else memory.seconds
        return memory.is_cooling(now), seconds

    return sorted(gateways, key=key)


def _of(memories: Mapping[str, Memory], gateway: Gateway) -> Memory:
    return memories.get(gateway.name, UNKNOWN)
