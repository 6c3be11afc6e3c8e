"""Actions stored and planes told: each its newest desired state, once in a term.

The reconcile loop has decided what; here it is written to the store and handed to the link.
"""

from collections.abc import Callable, Sequence

from control_plane import instruments
from control_plane.reconcile.actions import Action
from control_plane.reconcile.doors import Doors
from control_plane.reconcile.pace import aside
from control_plane.reconcile.snapshot import Snapshot
from control_plane.reconcile.storing import batches, store_action, store_together
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from skerry.fleet.generation import NEVER, Version
from skerry.plumbing import logs, tracing
from skerry.plumbing.errors import SkerryError, StaleGeneration

_log = logs.get_logger(__name__)


class Applying:
    """Remembers what each plane was offered, under which epoch."""

    def __init__(self, database: Database, doors: Doors, write: Callable[[], WriteContext]) -> None:
        """Begin with nothing offered; `write` gives the term to write under."""
        self._database = database
        self._doors = doors
        self._write = write
        self._span = tracing.Span()  # of what is being applied
        self._offered: dict[str, tuple[Version, bytes]] = {}

    async def apply(self, actions: tuple[Action, ...]) -> None:
        """Store the actions and offer planes what they make of their desired states.

        StaleGeneration when another leader has taken over.
        """
        if actions:
            with tracing.span("reconcile.apply", actions=len(actions)) as span:
                self._span = span
                await self._apply(actions)

    async def _apply(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            self._span.event(type(action).__name__, does=action.describe())
        for batch in batches(actions):
            if len(batch) > 1 and await self._apply_together(batch):
                continue
            for action in batch:
                _log.info("action", does=action.describe())
                try:
                    await self._apply_one(action)
                except StaleGeneration:
                    raise
                except SkerryError as error:
                    # One plane that cannot be recorded or told must not stop the others.
                    _log.warning("action.failed", does=action.describe(), error=str(error))
                    continue
                instruments.ACTIONS.labels(type(action).__name__).inc()

    async def push_all(self, snapshot: Snapshot) -> None:
        """Offer every plane its stored state once in this term; the link sends what is not held."""
        offers = await aside(snapshot, self._to_offer, snapshot)
        if not offers:
            return
        with tracing.span("reconcile.push", planes=len(offers)) as span:
            self._span = span
            for plane, version, payload in offers:
                self._offer(plane, version, payload)

    def _to_offer(self, snapshot: Snapshot) -> list[tuple[str, Version, bytes]]:
        """Return what was not offered yet, or is held in other bytes than the store's own.

        Those of thousands of planes are megabytes, which the link, the store's snapshot and this
        loop hold once.
        """
        found, epoch = [], self._write().epoch
        for state in snapshot.desired:
            version = Version(epoch=epoch, generation=state.version.generation)
            payload = snapshot.payloads[state.plane]
            offered, told = self._offered.get(state.plane, (NEVER, b""))
            # Without features it was never told anything yet.
            if state.required_features and (
                offered < version or (offered == version and told is not payload)
            ):
                found.append((state.plane, version, payload))
        return found

    def _offer(self, plane: str, version: Version, payload: bytes) -> None:
        self._doors.push(plane, version, payload)
        self._offered[plane] = version, payload
        told = {"epoch": version.epoch, "generation": version.generation}
        self._span.event("pushed", plane=plane, **told)

    async def _apply_together(self, actions: Sequence[Action]) -> bool:
        """Say whether all were stored, in one transaction; if not, none was."""
        try:
            pushed = await self._database.run(
                store_together, self._write(), actions, self._doors.encode
            )
        except SkerryError:
            return False  # one by one, it will show which of them it was
        for action in actions:
            _log.info("action", does=action.describe())
            instruments.ACTIONS.labels(type(action).__name__).inc()
        for told in pushed:
            self._offer(*told)
        return True

    async def _apply_one(self, action: Action) -> None:
        pushed = await self._database.run(store_action, self._write(), action, self._doors.encode)
        if pushed is not None:
            self._offer(*pushed)
