"""Whom one stream was lost with, so that it goes on elsewhere. PURE; each exchange has one."""

from workload_plane.gateway.avoiding import Host, hosts_of, render_avoided


class LostWith:
    """The hosts that have the stream now, and those that were lost with it before."""

    __slots__ = ("_lost", "_now", "_plane")

    def __init__(self, plane: str) -> None:
        """Begin with nobody; the gateway is that of `plane`."""
        self._plane = plane
        self._now: tuple[Host, ...] = ()
        self._lost: dict[Host, None] = {}

    def ask(self) -> str:
        """Note that it is asked again; return whom the gateway should avoid, "" for nobody."""
        self._now = ()
        return render_avoided(self._lost)

    def hear(self, tried: str, timing: str) -> None:
        """Note whom an answer names; one that names nobody changes nothing."""
        self._now = hosts_of(tried, timing, self._plane) or self._now

    def lose(self) -> None:
        """Note that the stream was lost with all who were tried; the last of them come last."""
        for host in self._now:
            self._lost.pop(host, None)
            self._lost[host] = None
        self._now = ()
