"""When what was published is written again although there is nothing new to tell.

What Envoy refused is put back to what it last took up, and files may be emptied or altered by
others; an Envoy that was mended, upgraded or started anew gets what it should have all the same.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from workload_plane.gateway import files

# An Envoy that has just refused a file refuses it again, with a line in its log and a
# configuration built in vain each time; what mends it without a new start is rare.
AGAIN_SECONDS_MIN = 30.0
AGAIN_SECONDS_MAX = 600.0


class Rewriting:
    """Compares the files with what was published, and waits longer after each refusal."""

    def __init__(self, gateway_dir: Path) -> None:
        """Know of nothing published yet."""
        self._gateway_dir = gateway_dir
        self._versions: Mapping[str, str] = {}
        self._stamps: files.Stamps = {}
        self._refused: frozenset[str] = frozenset()
        self._pause_seconds = AGAIN_SECONDS_MIN
        self._not_before = 0.0
        self._uptime_seconds: int | None = None

    def published(self, versions: Mapping[str, str]) -> None:
        """Take these versions, which are on disk now, for what should stay there."""
        self._stamps = files.stamps(self._gateway_dir, versions)
        self._versions = versions

    def refused(self, paths: Iterable[str], now: float) -> None:
        """Leave files that Envoy refused alone for a while, longer each time."""
        self._refused = frozenset(paths)
        if now < self._not_before:
            return  # told before
        self._not_before = now + self._pause_seconds
        self._pause_seconds = min(AGAIN_SECONDS_MAX, 2 * self._pause_seconds)

    def taken_up(self) -> None:
        """Begin anew: Envoy has everything."""
        self._refused = frozenset()
        self._pause_seconds, self._not_before = AGAIN_SECONDS_MIN, 0.0

    def saw(self, uptime_seconds: int | None) -> None:
        """Notice an Envoy that was started since: it may be another, and has refused nothing."""
        if uptime_seconds is None:
            return
        if self._uptime_seconds is not None and uptime_seconds < self._uptime_seconds:
            self.taken_up()
        self._uptime_seconds = uptime_seconds

    def is_due(self, now: float) -> bool:
        """Say whether a file differs from what was published and is to be written again.

        Reads only files that were touched, so it may be asked every few seconds.
        """
        found = files.stamps(self._gateway_dir, self._versions)
        touched = [path for path in self._versions if found.get(path) != self._stamps.get(path)]
        strays = files.other_than(self._gateway_dir, {p: self._versions[p] for p in touched})
        as_published = set(touched) - strays
        self._stamps = {**self._stamps, **{path: found.get(path) for path in as_published}}
        return bool(strays - self._refused if now < self._not_before else strays)
