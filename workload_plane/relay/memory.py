"""The bound on what all held streams take together; beyond it new streams pass unheld."""


class HeldBytes:
    """Counts bytes held for streams against one limit."""

    __slots__ = ("bytes_max", "held")

    def __init__(self, bytes_max: int) -> None:
        """Hold nothing yet."""
        self.bytes_max = bytes_max
        self.held = 0

    @property
    def is_full(self) -> bool:
        """Say whether no further stream may be held."""
        return self.held >= self.bytes_max

    def change(self, before: int, after: int) -> int:
        """Count that one stream holds `after` bytes where it held `before`; return `after`."""
        self.held += after - before
        assert self.held >= 0
        return after
