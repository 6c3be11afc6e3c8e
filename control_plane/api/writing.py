"""Who writes, under which epoch, and who is woken by it: shared by the operator's services."""

import contextlib
from collections.abc import Iterator
from typing import Any

from control_plane.api.auth import actor_of, reason_of
from control_plane.api.ports import Reconciler
from control_plane.store.fencing import WriteContext
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import NotLeading, StaleGeneration

# A standby takes over within seconds; clients know the other control planes and try those too.
RETRY_SECONDS = 2.0


class Writing:
    """Gives writes their context and wakes reconciliation after them."""

    def __init__(self, reconciler: Reconciler, clock: Clock) -> None:
        """Write under the reconciler's epoch."""
        self._reconciler = reconciler
        self._clock = clock

    def context(self, context: Any, project: str = DEFAULT_PROJECT) -> WriteContext:
        """Return the context of a call's write to what is a project's.

        NotLeading while this control plane stands by.
        """
        if not self._reconciler.epoch:
            raise _not_leading()
        return WriteContext(
            epoch=self._reconciler.epoch,
            actor=actor_of(context),
            now=self._clock.now(),
            project=project,
            reason=reason_of(context),
        )

    @contextlib.contextmanager
    def done(self) -> Iterator[None]:
        """Wake the loop after a write; a deposed leader's caller is sent to the one that leads."""
        try:
            yield
        except StaleGeneration:
            raise _not_leading() from None
        self._reconciler.wake()


def _not_leading() -> NotLeading:
    return NotLeading(
        "this control plane does not lead; send the call to another one",
        retry_after_seconds=RETRY_SECONDS,
    )
