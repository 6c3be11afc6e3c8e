"""Which replica holds which beginnings of prompts in its cache, as far as this gateway sent them.

PURE. One tree per deployment. A block's hash includes those of all blocks before it, so a flat
map of hashes is the tree. Each replica keeps its most recently used blocks: what its own cache
throws out first is forgotten here first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

# Of one replica: 8,192 blocks of 512 tokens are 4 million tokens, more than the caches of today's
# largest replicas hold; 100 replicas take about 150 MiB.
BLOCKS_PER_REPLICA_MAX = 8192


class PrefixTree:
    """Blocks by the replicas that hold them; replicas are bits of a mask."""

    __slots__ = ("_blocks_max", "_held", "_holders")

    def __init__(self, blocks_max: int = BLOCKS_PER_REPLICA_MAX) -> None:
        """Keep at most `blocks_max` blocks for each replica."""
        assert blocks_max > 0
        self._blocks_max = blocks_max
        self._holders: dict[int, int] = {}
        self._held: dict[int, OrderedDict[int, None]] = {}

    def matches(self, blocks: Sequence[int]) -> list[tuple[int, int]]:
        """Return (mask of replicas, how many leading blocks they hold), the longest first.

        A replica is in the first mask that names it; those that hold nothing are in none.
        """
        holders = self._holders
        found: list[tuple[int, int]] = []
        mask = -1
        for length, block in enumerate(blocks):
            holding = holders.get(block, 0) & mask
            if holding != mask:
                if length:
                    found.append((mask & ~holding, length))
                if not holding:
                    break
                mask = holding
        else:
            if blocks:
                found.append((mask, len(blocks)))
        found.reverse()
        return found

    def learn(self, replica: int, blocks: Sequence[int]) -> None:
        """Note that the replica (a number from 0) was sent these blocks, which it now holds."""
        if not blocks:
            return
        held = self._held.get(replica)
        if held is None:
            held = self._held[replica] = OrderedDict()
        holders, bit = self._holders, 1 << replica
        # From the end: a block is never older than those that follow it, so the ends of prompts
        # are forgotten before their beginnings.
        for block in reversed(blocks[: self._blocks_max]):
            if block in held:
                held.move_to_end(block)
            else:
                held[block] = None
                holders[block] = holders.get(block, 0) | bit
        while len(held) > self._blocks_max:
            self._drop(held.popitem(last=False)[0], bit)

    def forget(self, replica: int) -> None:
        """Forget all that the replica held: it went, or started anew with an empty cache."""
        bit = 1 << replica
        for block in self._held.pop(replica, ()):
            self._drop(block, bit)

    def sizes(self) -> dict[int, int]:
        """Return how many blocks each replica is taken to hold."""
        return {replica: len(held) for replica, held in self._held.items()}

    def _drop(self, block: int, bit: int) -> None:
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]


def length_by_replica(
    matches: Iterable[tuple[int, int]], replicas: Iterable[int]
) -> dict[int, int]:
    """Return the matched length of each replica that holds something."""
    found = list(matches)
    lengths: dict[int, int] = {}
    for replica in replicas:
        bit = 1 << replica
        for mask, length in found:
            if mask & bit:
                lengths[replica] = length
                break
    return lengths
