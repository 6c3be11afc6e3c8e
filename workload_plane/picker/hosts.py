"""The hosts that a request may go to, as the picker sees them now: replicas here, peers' gateways.

PURE but mutable: the picker owns them, `score` reads them. Times are monotonic seconds.
"""

import math
from hashlib import blake2b

from workload_plane.gateway.outliers import (
    EJECTION_SECONDS,
    EJECTION_SECONDS_MAX,
    ERRORS_IN_A_ROW,
    GATEWAY_ERRORS_IN_A_ROW,
)
from workload_plane.picker.facts import PeerTold, ReplicaTold
from workload_plane.picker.pending import Pace, Pending

# An engine should never idle while a request travels from the waiting room to it, so somewhat
# more than it works on at once is let through.
OVERSUBSCRIPTION = 1.25
UNLIMITED = 1 << 30
# A limit learned from refusals grows by a quarter after so long without another: from half to all
# of what an engine was started for in a minute.
_LIMIT_GROWS_SECONDS = 10.0
_LIMIT_GROWTH = 1.25
# An engine that refuses with less than half of its places taken is not full: it loads, or this
# was one wrong request. Where its places are not known, so many are taken for half.
_LIMIT_SHARE_MIN = 0.5
_LIMIT_MIN = 8
# Envoy's health checks find what is dead within this; until then nothing is sent there again.
SUSPECT_SECONDS = 2.0


class ErrorRun:
    """Errors that one host answered with in a row, and for how long it is out because of them."""

    __slots__ = ("_ejections", "_errors", "_gateway_errors", "until")

    def __init__(self) -> None:
        """Begin with none."""
        self._errors = self._gateway_errors = self._ejections = 0
        self.until = 0.0

    def answered(self) -> None:
        """Take in an answer that was none: whatever was before, the host works."""
        self._errors = self._gateway_errors = self._ejections = 0

    def failed(self, *, at_gateway: bool) -> bool:
        """Take in an error (`at_gateway`: 502 or 504); say if these are too many in a row."""
        self._errors += 1
        self._gateway_errors = self._gateway_errors + 1 if at_gateway else 0
        return self._errors >= ERRORS_IN_A_ROW or self._gateway_errors >= GATEWAY_ERRORS_IN_A_ROW

    def eject(self, now: float) -> None:
        """Put the host out, each time without an answer in between for longer."""
        self._ejections += 1
        self._errors = self._gateway_errors = 0
        self.until = now + min(EJECTION_SECONDS_MAX, self._ejections * EJECTION_SECONDS)


class Replica:
    """One replica of this plane."""

    __slots__ = (
        "_limit_at",
        "_limit_max",
        "_limit_min",
        "draining",
        "errors",
        "grpc",
        "healthy",
        "http",
        "index",
        "key",
        "limit",
        "name",
        "open",
        "pending",
        "picked",
        "put_out",
        "suspect_until",
        "untracked",
    )

    def __init__(self, told: ReplicaTold, index: int, pace: Pace, concurrent_requests: int) -> None:
        """Begin idle; `index` is its bit in the prefix tree."""
        self.name, self.http, self.grpc = told.name, told.http, told.grpc
        self.draining = told.draining
        self.index = index
        self.key = name_hash(told.name)
        self.healthy: bool | None = None
        self.open = 0
        self.untracked = 0
        self.picked = 0
        self.pending = Pending(pace)
        self.suspect_until = 0.0
        self.errors = ErrorRun()
        self.put_out = False  # by the gateway itself
        self._limit_max = saturation(concurrent_requests)
        self._limit_min = max(1, math.ceil(concurrent_requests * _LIMIT_SHARE_MIN))
        if concurrent_requests <= 0:
            self._limit_min = _LIMIT_MIN
        self.limit = self._limit_max
        self._limit_at = 0.0

    @property
    def in_flight(self) -> int:
        """Return the requests there: those picked for, and those that Envoy sent by itself."""
        return self.open + self.untracked

    def address(self, is_grpc: bool) -> str:
        """Return where the protocol is spoken."""
        return self.grpc if is_grpc else self.http

    @property
    def is_full(self) -> bool:
        """Say whether it has what its engine works on at once, and what keeps that busy."""
        return self.open + self.untracked >= self.limit

    def refused(self, now: float) -> None:
        """Learn that the engine had all it would take, if it had anything near that."""
        if self.in_flight >= self._limit_min:
            self.limit = max(self._limit_min, min(self.limit, self.in_flight - 1))
            self._limit_at = now

    def is_out(self, now: float) -> bool:
        """Say whether its answers were errors for too long, here or as the gateway counts."""
        return self.put_out or self.errors.until > now

    def recover(self, now: float) -> None:
        """Let more in when nothing was refused for a while."""
        if self.limit < self._limit_max and now - self._limit_at >= _LIMIT_GROWS_SECONDS:
            more = max(self.limit + 1, int(self.limit * _LIMIT_GROWTH))
            self.limit = min(self._limit_max, more)
            self._limit_at = now

    def forget_limit(self) -> None:
        """Take the engine for one that has refused nothing: it may be a new one."""
        self.limit = self._limit_max


class Peer:
    """Another plane's gateway, for one deployment."""

    __slots__ = (
        "address",
        "healthy",
        "in_flight_min",
        "name",
        "open",
        "open_then",
        "rank",
        "ready",
        "sent",
    )

    def __init__(self, told: PeerTold) -> None:
        """Begin with nothing known of its load."""
        self.name, self.address, self.rank = told.plane, told.address, told.distance_rank
        self.healthy: bool | None = None
        self.open = 0
        self.open_then = 0
        self.sent = 0
        self.in_flight_min = -1
        self.ready = 0

    def busy(self) -> float | None:
        """Return the load of its least busy replica with what was sent since; None: unknown."""
        if self.in_flight_min < 0 or self.ready <= 0:
            return None
        return self.in_flight_min + self.sent / self.ready

    def told(self, in_flight_min: int, ready: int) -> None:
        """Take in its own word on its load; less than zero in flight is not known."""
        self.in_flight_min, self.ready = in_flight_min, ready
        self.sent, self.open_then = 0, self.open

    def room(self, limit: int) -> int | None:
        """Return how many more its replicas take, of which each takes `limit`; None: unknown.

        What was sent since it told of its load takes a place, what ended since frees one.
        """
        if self.in_flight_min < 0 or self.ready <= 0:
            return None
        since = (self.open - self.open_then) / self.ready
        return max(0, int((limit - max(0.0, self.in_flight_min + since)) * self.ready))


def saturation(concurrent_requests: int) -> int:
    """Return how many requests at once saturate an engine of that many slots (0: not known)."""
    if concurrent_requests <= 0:
        return UNLIMITED
    return math.ceil(concurrent_requests * OVERSUBSCRIPTION) + 1


def name_hash(name: str) -> int:
    """Return 64 bits that are the same in every process on every machine."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
