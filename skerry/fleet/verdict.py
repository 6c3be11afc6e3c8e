"""A judgement of a plane with all that it rested on, as it is kept and shown to people."""

from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.observation import PeerView, PlaneState


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a plane was judged at one time; times in seconds, `before` None for the first one.

    Nothing was lost in `grace`, for the control plane or its database had been away; nor while
    `frozen`, for `planes_silent` of `planes_counted` planes had fallen silent at once. `declared`:
    by an operator's word.
    """

    judged_at: datetime
    state: PlaneState
    before: PlaneState | None = None
    reason: str = ""
    linked: bool = False
    silent_seconds: float = 0.0
    lease_seconds: float = 0.0
    witnesses: tuple[PeerView, ...] = ()
    witnesses_needed: int = 0
    grace: bool = False
    frozen: bool = False
    planes_counted: int = 0
    planes_silent: int = 0
    declared: bool = False

    @property
    def against(self) -> int:
        """Return how many witnesses saw the plane gone."""
        return sum(1 for view in self.witnesses if view.is_against)
