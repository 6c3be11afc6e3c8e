"""The waiting room: requests are held here while no replica can take them, then sent on.

Envoy sends a request here as to any host, of the last priority. It is held without its body and
answered with AGAIN_HEADER once a replica has room, upon which Envoy sends it there; so no answer
and no stream passes through. What can't be held is refused: 429 when the queue is full or all
replicas stayed so, 503 when none came in time, all with Retry-After.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from skerry.plumbing.clock import Clock
from workload_plane.picker.deployments import Deployment
from workload_plane.picker.picker import Picker
from workload_plane.picker.waiting import Waiter, WaitingQueue

# Half the shortest time in which anybody notices; only while somebody waits.
TICK_SECONDS = 0.02
# Into an engine of which no limit is known, so many at once for each replica: the rest follow
# with the next tick.
_BURST_PER_REPLICA = 64
ANONYMOUS = 0  # the tenant of requests without a credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as the room sees it: its headers' facts, and how often Envoy has tried it."""

    deployment: str
    ticket: int = 0
    address: int = ANONYMOUS
    tenant: int = ANONYMOUS
    priority: int | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a held request ends: sent on (`again`), or refused with a status and the reason."""

    again: bool = False
    status: int = 503
    retry_after_seconds: int = 1
    code: str = ""
    message: str = ""


Answer = Callable[[Verdict], None]
AGAIN = Verdict(again=True)


class Room:
    """The queues of all deployments, and who is to be told what becomes of a request."""

    def __init__(self, picker: Picker, clock: Clock) -> None:
        """Hold nobody yet."""
        self._picker = picker
        self._now = clock.monotonic
        self._queues = picker.waiting
        self._answers: dict[int, tuple[Answer, int]] = {}
        self._next = 1
        self.refused = 0
        self.released = 0

    @property
    def waiting(self) -> int:
        """Return how many requests wait."""
        return len(self._answers)

    @property
    def waited_for(self) -> frozenset[str]:
        """Return the deployments that requests wait for."""
        return frozenset(name for name, queue in self._queues.items() if len(queue))

    def waiting_for(self, deployment: str) -> int:
        """Return how many requests wait for a deployment."""
        queue = self._queues.get(deployment)
        return len(queue) if queue is not None else 0

    def enter(self, asked: Asked, answer: Answer) -> int | None:
        """Hold a request; return its number, None when it was answered at once."""
        now = self._now()
        deployment = self._picker.deployment(asked.deployment)
        if deployment is None:
            answer(_unknown(asked.deployment))
            return None
        deployment.asked_at = now
        since = self._picker.enter_room(asked.ticket, asked.attempt, now)
        if since is None or not deployment.may_hold:
            # It was here before and has waited enough, or could not be sent on.
            self.refused += 1
            answer(_too_late(deployment, now))
            return None
        number, self._next = self._next, self._next + 1
        waiter = Waiter(
            number=number,
            tenant=(asked.address, asked.tenant),
            priority=deployment.urgency(asked.priority),
            since=since,
            deadline=since + deployment.told.hold_seconds,
        )
        queue = self._queues.setdefault(asked.deployment, WaitingQueue(0))
        queue.requests_max = deployment.told.queue_requests_max
        if queue:  # a place that is free now is no reason to turn anybody away
            self._release(asked.deployment, queue, deployment, now)
        self._answers[number] = (answer, asked.ticket)
        for loser in queue.offer(waiter):
            self.refused += 1
            self._tell(loser.number, _full(deployment))
        if number in self._answers:
            self._release(asked.deployment, queue, deployment, now)
        return number if number in self._answers else None

    def leave(self, number: int) -> None:
        """Forget a request whose sender went away."""
        if self._answers.pop(number, None) is not None:
            for queue in self._queues.values():
                queue.remove(number)

    def wake(self) -> None:
        """Send on whom a replica can take now: requests have ended."""
        if self._answers:
            now = self._now()
            for name, queue in list(self._queues.items()):
                deployment = self._picker.deployment(name)
                if queue and deployment is not None:
                    self._release(name, queue, deployment, now)

    def tick(self) -> None:
        """Send on whom a replica can take now, and refuse whose time is over."""
        now = self._now()
        for name, queue in list(self._queues.items()):
            if not queue:
                del self._queues[name]
                continue
            deployment = self._picker.deployment(name)
            if deployment is None:
                for waiter in queue.take(len(queue)):
                    self._tell(waiter.number, _unknown(name))
                continue
            self._release(name, queue, deployment, now)
            for waiter in queue.expired(now):
                self.refused += 1
                self._tell(waiter.number, _too_late(deployment, now))

    def _release(self, name: str, queue: WaitingQueue, deployment: Deployment, now: float) -> None:
        ready = len(deployment.usable(now))
        # Envoy sends what leaves here to a replica of this plane while it has any.
        room = deployment.room(now) if ready else deployment.peer_room()
        for waiter in queue.take(min(room, max(1, ready) * _BURST_PER_REPLICA)):
            self.released += 1
            answer = self._answers.pop(waiter.number, None)
            if answer is not None:
                self._picker.place(answer[1], now)
                answer[0](AGAIN)

    def _tell(self, number: int, verdict: Verdict) -> None:
        answer = self._answers.pop(number, None)
        if answer is not None:
            answer[0](verdict)


def error_body(verdict: Verdict) -> bytes:
    """Return a refusal in the shape that OpenAI's clients understand."""
    kind = "rate_limit_error" if verdict.status == 429 else "server_error"
    error = {"message": verdict.message, "type": kind, "param": None, "code": verdict.code}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


def _full(deployment: Deployment) -> Verdict:
    return Verdict(
        status=429,
        code="queue_full",
        message=(
            f"{deployment.told.queue_requests_max} requests wait already for a replica of this"
            " model; try again later"
        ),
    )


def _too_late(deployment: Deployment, now: float) -> Verdict:
    """Return what is said to who has waited enough.

    Not 503 while there are replicas: Envoy tries a 503 again, and would send all who waited to
    the very engines that are full.
    """
    pause = max(1, round(deployment.told.hold_seconds / 6))
    if deployment.has_replica(now):
        return Verdict(
            status=429,
            retry_after_seconds=pause,
            code="replicas_busy",
            message="all replicas of this model stayed busy for as long as a request may wait;"
            " try again later",
        )
    return Verdict(
        retry_after_seconds=pause,
        code="no_ready_replica",
        message="no replica of this model was ready in time; try again",
    )


def _unknown(name: str) -> Verdict:
    return Verdict(code="no_ready_replica", message=f"{name!r} is not served here any more")
