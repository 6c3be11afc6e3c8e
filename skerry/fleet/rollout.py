"""How a new revision reaches the planes: its policy, how far it is, and what a plane may run.

The control plane decides and stores (`control_plane.reconcile.rollout`), the API shows it.
"""

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

SOAK_SECONDS_MAX = 7 * 86_400.0
READY_SECONDS_MAX = 86_400.0
SURGE_MAX = 1_000  # replicas of one plane; above the largest pool that is rolled at once
BROKEN_KEPT_MAX = 16  # revisions remembered as broken, the newest
REASON_CHARACTERS_MAX = 500
# Of planes that went down in the soak of one revision: one may be chance, and the rest is spared.
FALLEN_MAX = 2


class OnFailure(StrEnum):
    """What a revision that fails its gates leads to."""

    ROLLBACK = "rollback"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """The gates and the pace of a rollout; of the deployment, not of a revision.

    `ready_seconds_max` 0: from what starts of the deployment took. `max_surge` and
    `max_unavailable` are replicas of the one plane that is under way, above and below its target.
    """

    soak_seconds: float = 60.0
    ready_seconds_max: float = 0.0
    max_surge: int = 1
    max_unavailable: int = 1
    on_failure: OnFailure = OnFailure.ROLLBACK

    def __post_init__(self) -> None:
        _check_seconds("soak_seconds", self.soak_seconds, SOAK_SECONDS_MAX)
        _check_seconds("ready_seconds_max", self.ready_seconds_max, READY_SECONDS_MAX)
        for name, least in (("max_surge", 1), ("max_unavailable", 0)):
            count = getattr(self, name)
            if not least <= count <= SURGE_MAX:
                raise ValueError(f"rollout.{name} must be {least}..{SURGE_MAX}, not {count}")


def _check_seconds(name: str, seconds: float, most: float) -> None:
    if not (math.isfinite(seconds) and 0.0 <= seconds <= most):
        raise ValueError(f"rollout.{name} must be 0..{most:g}, not {seconds}")


class Stage(StrEnum):
    """How far a rollout is."""

    FIRST = "first"  # of a deployment without an earlier revision: its first replica starts
    CANARY = "canary"  # one replica of one plane is to become READY
    SOAKING = "soaking"  # that one serves under the gates
    ROLLING = "rolling"  # plane by plane
    COMPLETE = "complete"
    ROLLED_BACK = "rolled_back"


class Halt(StrEnum):
    """Why a rollout does not go on for now."""

    NONE = ""
    OPERATOR = "operator"  # until an operator resumes it
    FAILURE = "failure"  # a gate failed, or what is rolled out crash-loops
    AWAY = "away"  # the plane under way is not heard, or a lost one is replaced; ends by itself


UNDER_WAY = frozenset({Stage.CANARY, Stage.SOAKING, Stage.ROLLING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The rollout of a deployment's newest revision; there is one of each deployment.

    `stable` is the revision that served before, 0 without one. `plane` is the one under way, its
    first replica on `pool`; `beside`: that one runs beside the earlier revision's. `done` planes
    run `revision` only, `elsewhere` those (plane, revision) that an earlier rollout had reached.
    Halted because a plane is away it has `released` its surge: `kept` are the (pool, replicas) of
    the plane under way that stay at `revision`. `started_at` is when the first replica was seen to
    start, or what is broken to serve again; `pid` is the first replica's engine. The plane under
    way is away since `away_at`, None while it is heard. `received` are planes that came to be done,
    and when, as far as they may be in their soak; `fallen` those that were lost in it, or while
    they were under way.
    """

    deployment: str
    revision: int
    stable: int = 0
    stage: Stage
    since: datetime
    halt: Halt = Halt.NONE
    reason: str = ""
    plane: str = ""
    pool: str = ""
    beside: bool = True
    started_at: datetime | None = None
    pid: int = 0
    done: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, int], ...] = ()
    released: bool = False
    kept: tuple[tuple[str, int], ...] = ()
    broken: tuple[int, ...] = field(default=())
    away_at: datetime | None = None
    received: tuple[tuple[str, datetime], ...] = ()
    fallen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.broken) <= BROKEN_KEPT_MAX

    @property
    def fells_planes(self) -> bool:
        """Say whether so many planes went down with the revision that no other is to get it."""
        return len(self.fallen) >= FALLEN_MAX

    @property
    def state(self) -> str:
        """Return the stage in one word for people: `paused` or `broken` where it halts."""
        if self.halt is Halt.NONE:
            return self.stage.value
        if self.halt is Halt.FAILURE and (self.fells_planes or self.stage not in UNDER_WAY):
            return "broken"
        return "paused"

    @property
    def revisions(self) -> frozenset[int]:
        """Return every revision that some plane may run now."""
        return frozenset({self.revision, self.stable, *(n for _, n in self.elsewhere)}) - {0}


STATES = (*(stage.value for stage in Stage), "paused", "broken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one plane may run of a deployment: a revision, and so many of another, by pool."""

    revision: int
    candidate: int = 0
    replicas: tuple[tuple[str, int], ...] = ()


def share_of(rollout: Rollout, plane: str) -> Share:
    """Return what the plane may run at this point of the rollout."""
    new = Share(revision=rollout.revision)
    if rollout.stage in (Stage.COMPLETE, Stage.FIRST):
        return new
    if rollout.stage is Stage.ROLLED_BACK:
        return Share(revision=rollout.stable)
    before = dict(rollout.elsewhere).get(plane, rollout.stable)
    if plane in rollout.done or before == rollout.revision:
        return new
    if plane != rollout.plane:
        return Share(revision=before)
    if rollout.released:
        return _beside(before, rollout.revision, rollout.kept)
    if rollout.stage is Stage.ROLLING or not rollout.beside:
        return new
    return _beside(before, rollout.revision, ((rollout.pool, 1),))


def _beside(before: int, new: int, replicas: tuple[tuple[str, int], ...]) -> Share:
    counted = tuple((pool, count) for pool, count in replicas if count > 0)
    return Share(revision=before, candidate=new if counted else 0, replicas=counted)


def paused(rollout: Rollout, reason: str) -> Rollout:
    """Return the rollout halted by an operator: the step under way ends, no other begins."""
    return replace(rollout, halt=Halt.OPERATOR, reason=reason[:REASON_CHARACTERS_MAX])


def resumed(rollout: Rollout, now: datetime) -> Rollout:
    """Return the rollout going on again; times count anew, and a rolled back one begins again.

    So do planes that go down with it, where it was halted for those that did.
    """
    again = replace(
        rollout,
        halt=Halt.NONE,
        reason="",
        since=now,
        started_at=None,
        pid=0,
        released=False,
        kept=(),
        away_at=None,
        fallen=() if rollout.fells_planes else rollout.fallen,
    )
    if rollout.stage is Stage.SOAKING:
        return replace(again, stage=Stage.CANARY)  # READY, it soaks at once, for its whole time
    if rollout.stage is Stage.ROLLED_BACK:
        broken = tuple(one for one in rollout.broken if one != rollout.revision)
        return replace(
            again, stage=Stage.CANARY, plane="", pool="", done=(), broken=broken, received=()
        )
    return again


def rolled_back(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Return the rollout with every plane going back to the revision that served before."""
    others = tuple(one for one in rollout.broken if one != rollout.revision)
    return replace(
        rollout,
        stage=Stage.ROLLED_BACK,
        halt=Halt.NONE,
        since=now,
        reason=reason[:REASON_CHARACTERS_MAX],
        plane="",
        pool="",
        started_at=None,
        pid=0,
        done=(),
        elsewhere=(),
        released=False,
        kept=(),
        broken=(*others, rollout.revision)[-BROKEN_KEPT_MAX:],
        away_at=None,
        received=(),
        fallen=(),
    )
