"""The change log as an endless stream: woken by commits here, looked up for commits elsewhere."""

from collections.abc import AsyncGenerator

from control_plane.store.changes import check_kept, list_changes
from control_plane.store.engine import Database
from control_plane.store.values import Change
from skerry.fleet.project import ANY_PROJECT
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Exhausted
from skerry.plumbing.tasks import first_of

# Each stream costs a read per change; dashboards and people, not machines, watch the log.
WATCHERS_MAX = 100
BATCH_CHANGES = 200  # a slow reader holds no more of the log in memory than this
# Another control plane's commits wake nobody here; a second of delay is what people don't notice.
LOOK_SECONDS = 1.0


class ChangeWatch:
    """Counts who watches, and follows the log for each."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Follow this database's log."""
        self._database = database
        self._clock = clock
        self._watchers = 0

    async def follow(
        self, from_sequence: int, project: str = ANY_PROJECT
    ) -> AsyncGenerator[Change, None]:
        """Yield every change of a project above a sequence, in order, without end.

        OutOfRange for a sequence from the future (the database was restored from an older backup)
        and for one whose next changes were forgotten.
        """
        if self._watchers >= WATCHERS_MAX:
            raise Exhausted(f"{WATCHERS_MAX} streams of changes are open; end one, or list changes")
        self._watchers += 1
        try:
            await self._database.run_read(check_kept, from_sequence)
            sequence = from_sequence
            while True:
                # Taken before the read: a commit in between must not be slept through.
                committed = self._database.next_commit()
                found = await self._database.run_read(list_changes, sequence, BATCH_CHANGES)
                if found and found[0].sequence != sequence + 1:
                    # Forgotten while this stream was slow: to go on would be to skip.
                    await self._database.run_read(check_kept, sequence)
                for change in found:
                    sequence = change.sequence
                    if project in (ANY_PROJECT, change.project):
                        yield change
                if not found:
                    await first_of(committed.wait(), self._clock.sleep(LOOK_SECONDS))
        finally:
            self._watchers -= 1
