"""Requests that wait for a replica: a bounded queue, fair between tenants, with deadlines. PURE.

One queue for each deployment. Who has the higher priority goes first; among equals addresses take
turns, and among those of one address its credentials, so that a client with a thousand requests
delays another's single one by one turn, under however many names it asks; of one tenant the oldest
goes first.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

Tenant = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """One request that waits; `priority` 0 is the most urgent, times are monotonic seconds.

    `tenant` is the address it came from and the credential it came with, both hashed.
    """

    number: int
    tenant: Tenant
    priority: int
    since: float
    deadline: float


class WaitingQueue:
    """The requests that wait for one deployment."""

    __slots__ = ("_by_priority", "_waiters", "requests_max")

    def __init__(self, requests_max: int) -> None:
        """Hold at most `requests_max` requests."""
        self.requests_max = requests_max
        self._waiters: dict[int, Waiter] = {}
        self._by_priority: dict[int, _Turns] = {}

    @property
    def most_urgent(self) -> int | None:
        """Return the lowest priority of those that wait, None when nobody does."""
        return min(self._by_priority, default=None)

    def __len__(self) -> int:
        return len(self._waiters)

    def offer(self, waiter: Waiter) -> tuple[Waiter, ...]:
        """Put a request in; return who has no place any more: nobody, another, or itself.

        In a full queue the least urgent give way first, and among equals the newest of the address
        who has the most in it.
        """
        assert waiter.number not in self._waiters
        if self.requests_max <= 0:
            return (waiter,)
        self._waiters[waiter.number] = waiter
        self._by_priority.setdefault(waiter.priority, _Turns()).put(waiter)
        if len(self._waiters) <= self.requests_max:
            return ()
        heaviest = self._by_priority[max(self._by_priority)].heaviest(waiter.tenant)
        loser = self._waiters[heaviest]
        self.remove(loser.number)
        return (loser,)

    def take(self, count: int) -> tuple[Waiter, ...]:
        """Take out up to so many, in the order in which they are to be served."""
        taken: list[Waiter] = []
        for priority in sorted(self._by_priority):
            turns = self._by_priority[priority]
            while turns.count and len(taken) < count:
                taken.append(self._waiters.pop(turns.take()))
            if not turns.count:
                del self._by_priority[priority]
        return tuple(taken)

    def expired(self, now: float) -> tuple[Waiter, ...]:
        """Take out those whose deadline has come."""
        over = tuple(one for one in self._waiters.values() if one.deadline <= now)
        for one in over:
            self.remove(one.number)
        return over

    def remove(self, number: int) -> None:
        """Take out a request whose sender went away; nothing when it is not here."""
        waiter = self._waiters.pop(number, None)
        if waiter is None:
            return
        turns = self._by_priority[waiter.priority]
        turns.remove(waiter)
        if not turns.count:
            del self._by_priority[waiter.priority]

    def waiters(self) -> Iterable[Waiter]:
        """Return those that wait, in the order in which they came."""
        return tuple(self._waiters.values())

    def next_deadline(self) -> float | None:
        """Return when the first deadline comes, None when nobody waits."""
        return min((one.deadline for one in self._waiters.values()), default=None)


class _Turns:
    """The numbers of one priority: by address, then by credential, then by age."""

    __slots__ = ("_addresses", "count")

    def __init__(self) -> None:
        self._addresses: OrderedDict[int, OrderedDict[int, deque[int]]] = OrderedDict()
        self.count = 0

    def put(self, waiter: Waiter) -> None:
        address, credential = waiter.tenant
        credentials = self._addresses.setdefault(address, OrderedDict())
        credentials.setdefault(credential, deque()).append(waiter.number)
        self.count += 1

    def take(self) -> int:
        """Take out whose turn it is, and put its address and its credential behind the others."""
        address, credentials = self._addresses.popitem(last=False)
        credential, numbers = credentials.popitem(last=False)
        number = numbers.popleft()
        if numbers:
            credentials[credential] = numbers
        if credentials:
            self._addresses[address] = credentials
        self.count -= 1
        return number

    def remove(self, waiter: Waiter) -> None:
        address, credential = waiter.tenant
        credentials = self._addresses[address]
        credentials[credential].remove(waiter.number)
        if not credentials[credential]:
            del credentials[credential]
        if not credentials:
            del self._addresses[address]
        self.count -= 1

    def heaviest(self, newcomer: Tenant) -> int:
        """Return the newest of who has the most; of equals the newcomer's own gives way."""
        address = _heaviest(
            {one: sum(map(len, of.values())) for one, of in self._addresses.items()}, newcomer[0]
        )
        credentials = self._addresses[address]
        own = newcomer[1] if address == newcomer[0] else None
        credential = _heaviest({one: len(of) for one, of in credentials.items()}, own)
        return credentials[credential][-1]


def _heaviest(counts: dict[int, int], own: int | None) -> int:
    most = max(counts.values())
    # Of those that have the same, the newcomer's own gives way: nobody else lost anything.
    if own is not None and counts.get(own) == most:
        return own
    return [one for one, count in counts.items() if count == most][-1]
