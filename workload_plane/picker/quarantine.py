"""Requests that engines die of: found by what was lost with them, and refused for a while.

PURE; `authz` asks before it picks, `picker` tells what the access log says. A request is known by
a hash of its whole body; one whose body is not seen whole is never refused. What an engine has
answered whole a moment ago is most likely a bystander: many ask it, and a host died under them.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

# A request that was on so many engines when they died is given to no third.
LOSSES_MAX = 2
# A loss at the same address within it is the same death: engines take longer to come back.
SAME_DEATH_SECONDS = 1.0
# Losses of a request that was answered so lately are one, wherever its copies were, if they come
# within so short a time of each other: a host, or all of a plane's engines, went at once.
GOOD_SECONDS = 60.0
ONE_LOSS_SECONDS = 5.0
# 2 MB; at 1,000 different requests a second it reaches back 10 s, for what is asked often a minute.
ANSWERED_MAX = 10_000
# Who was with a poison request on both engines is refused as well: not for longer than it takes
# people to look. What is lost again after that was no bystander.
REFUSED_SECONDS = 300.0
REFUSED_AGAIN_SECONDS = 3_600.0
# So long a loss is remembered. 100 bytes each; the oldest are forgotten first.
REMEMBERED_SECONDS = 3_600.0
SUSPECTS_MAX = 10_000
_DIGEST_BYTES = 16


@dataclass(slots=True)
class _Suspect:
    """What was lost with one request: engines by address, each with when it last died."""

    deaths: list[tuple[str, float]]
    refused_until: float = 0.0
    sentences: int = 0


class Quarantine:
    """The requests that engines were lost with, by fingerprint."""

    def __init__(self) -> None:
        """Begin with none."""
        self._suspects: OrderedDict[bytes, _Suspect] = OrderedDict()
        self._answered: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many requests are remembered."""
        return len(self._suspects)

    def refuses(self, fingerprint: bytes, now: float) -> bool:
        """Say whether the request is to reach no engine now."""
        known = self._suspects.get(fingerprint) if fingerprint else None
        return known is not None and now < known.refused_until

    def refused(self, now: float) -> int:
        """Return how many requests are refused now."""
        return sum(now < one.refused_until for one in self._suspects.values())

    def lost(self, fingerprint: bytes, addresses: tuple[str, ...], now: float) -> bool:
        """Take in that the hosts died with the request on them; say if it is refused from now."""
        if not fingerprint:
            return False
        known = self._suspects.get(fingerprint)
        if known is None:
            known = self._suspects[fingerprint] = _Suspect([])
        self._suspects.move_to_end(fingerprint)
        while len(self._suspects) > SUSPECTS_MAX:
            self._suspects.popitem(last=False)
        known.deaths = [one for one in known.deaths if now - one[1] < REMEMBERED_SECONDS]
        good = self._is_good(fingerprint, now)
        for address in addresses:
            if not any(
                now - at < ONE_LOSS_SECONDS
                if good
                else address == other and now - at < SAME_DEATH_SECONDS
                for other, at in known.deaths
            ):
                known.deaths.append((address, now))
        del known.deaths[:-LOSSES_MAX]
        if now < known.refused_until or len(known.deaths) < LOSSES_MAX:
            return False
        seconds = REFUSED_AGAIN_SECONDS if known.sentences else REFUSED_SECONDS
        known.refused_until = now + seconds
        known.sentences += 1
        # After it one loss is enough.
        known.deaths = known.deaths[-1:]
        return True

    def answered(self, fingerprint: bytes, now: float) -> None:
        """Take in that an engine answered the request whole: it kills none."""
        if not fingerprint:
            return
        self._answered[fingerprint] = now
        self._answered.move_to_end(fingerprint)
        if len(self._answered) > ANSWERED_MAX:
            self._answered.popitem(last=False)
        if self._suspects:
            self._suspects.pop(fingerprint, None)

    def expire(self, now: float) -> None:
        """Forget what was lost too long ago."""
        while self._suspects:
            fingerprint, oldest = next(iter(self._suspects.items()))
            last = oldest.deaths[-1][1] if oldest.deaths else 0.0
            if now < oldest.refused_until or now - last < REMEMBERED_SECONDS:
                return
            del self._suspects[fingerprint]

    def _is_good(self, fingerprint: bytes, now: float) -> bool:
        answered_at = self._answered.get(fingerprint)
        return answered_at is not None and now - answered_at < GOOD_SECONDS


def fingerprint_of(deployment: str, body: bytes, length: int) -> bytes:
    """Return a hash of the whole body, empty when that was not seen or there is none."""
    if not body or length > len(body):
        return b""
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, key=deployment.encode()[:64]).digest()
