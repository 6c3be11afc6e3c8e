"""The simulated KV cache: blocks of a fixed number, shared by prefix, the oldest evicted first.

Pure. A block is private to a request, shared by requests with the same prefix, idle (computed
once, used by none, there for the next) or free. A block's key stands for all tokens up to its end.
"""

from collections.abc import Sequence


class KvBlocks:
    """Counts every block; never hands out more than there are."""

    __slots__ = ("_free", "_idle", "_shared", "missed_total", "reused_total", "total")

    def __init__(self, total: int) -> None:
        """Start with all blocks free."""
        assert total >= 1
        self.total = total
        self._free = total
        self._shared: dict[int, int] = {}  # key -> requests that use it, at least one
        self._idle: dict[int, None] = {}  # keys, the one to evict next first
        self.reused_total = 0
        self.missed_total = 0

    @property
    def used(self) -> int:
        """Return how many blocks requests hold."""
        return self.total - self._free - len(self._idle)

    @property
    def available(self) -> int:
        """Return how many blocks requests could still take."""
        return self._free + len(self._idle)

    def matching(self, keys: Sequence[int]) -> int:
        """Return how many of the keys, from the first on, are here without a gap."""
        count = 0
        for key in keys:
            if key not in self._shared and key not in self._idle:
                break
            count += 1
        return count

    def take(self, keys: Sequence[int], more: int) -> bool:
        """Take the blocks with those keys, all here, and `more` private ones; or nothing."""
        idle = sum(1 for key in keys if key in self._idle)
        if more > self._free + len(self._idle) - idle:
            return False
        for key in keys:
            if key in self._idle:
                del self._idle[key]
            self._shared[key] = self._shared.get(key, 0) + 1
        self._make_private(more)
        return True

    def publish(self, keys: Sequence[int]) -> list[int]:
        """Turn a request's private blocks into shared ones; return those that now are.

        A key that is here already stays as it is: the request goes on with a copy of its own.
        """
        published = [key for key in keys if key not in self._shared and key not in self._idle]
        for key in published:
            self._shared[key] = 1
        return published

    def release(self, keys: Sequence[int], private: int) -> None:
        """Give back a request's blocks; shared ones stay for the next with the same prefix."""
        self._free += private
        # The end of a prefix is of use only with its beginning: it is evicted first.
        for key in reversed(keys):
            self._shared[key] -= 1
            if not self._shared[key]:
                del self._shared[key]
                self._idle[key] = None
        assert self._free + len(self._idle) + len(self._shared) <= self.total

    def _make_private(self, count: int) -> None:
        while self._free < count:
            del self._idle[next(iter(self._idle))]
            self._free += 1
        self._free -= count
