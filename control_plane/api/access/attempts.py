"""How often each peer may fail to prove who it is. Pure: the time is an argument.

What is right is let in however often others fail from the same address, so nobody can be locked
out; only what would cost a signature to check is refused unseen.
"""

from collections import OrderedDict

# A person mistypes a few times, a program with a token that ended tries once a second for ever.
FAILURES_AT_ONCE = 20
FAILURES_PER_SECOND = 1.0
# At 200 B each 2 MB; the peer that failed the longest ago is forgotten first.
PEERS_MAX = 10_000


class Attempts:
    """A bucket of failures a peer."""

    def __init__(self) -> None:
        """Know of no failure."""
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, peer: str, now: float) -> bool:
        """Count a failure; say whether it was the last one that is still looked at."""
        left = self._now(peer, now)
        self._left[peer] = (max(left - 1.0, 0.0), now)
        self._left.move_to_end(peer)
        if len(self._left) > PEERS_MAX:
            self._left.popitem(last=False)
        return left >= 1.0 > left - 1.0

    def is_over(self, peer: str, now: float) -> bool:
        """Say whether the peer failed too often of late."""
        return self._now(peer, now) < 1.0

    def _now(self, peer: str, now: float) -> float:
        if peer not in self._left:
            return float(FAILURES_AT_ONCE)
        left, at = self._left[peer]
        return min(float(FAILURES_AT_ONCE), left + (now - at) * FAILURES_PER_SECOND)


def peer_host(peer: str) -> str:
    """Return the address of a gRPC peer, `ipv4:1.2.3.4:567`, without its port."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer
