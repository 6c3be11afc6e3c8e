"""The drills there are, what each is held to, whom it hurts, and what speaks against it: pure.

The figures are those of docs/reliability.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from skerry.client.questions import LossRow
from skerry.client.rows import DeploymentRow, PlaneRow
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.observation import PlaneState
from skerry.plumbing.errors import NotFound

# After a fault that leaves something alive, whoever asks next is answered by then.
SHIFTED_SECONDS_MAX = 3.0
# A heartbeat's timeout is 3 s; seen through a list that is asked for a few times a second.
DETECTED_SECONDS_MAX = 4.0
DECIDED_SECONDS_MAX = 20.0
# From the stop on. A standby leads within 5 s; who asks sees it once the connection to the one that
# hangs is given up, after 7 s without a word (gRPC's keepalive: a ping after 5 s, 2 s for its
# answer), and has looked once more.
LEADER_SECONDS_MAX = 10.0
BACK_SECONDS_MAX = 10.0
# The loss of a plane is believed when at least two others have seen it.
WITNESSES_MIN = 2


class Hurts(StrEnum):
    """What a drill breaks."""

    CONTROL_PLANES = "every control plane"
    LEADER = "the leading control plane"
    AGENT = "a plane's agent"
    GATEWAY = "a plane's gateway"
    ENGINE = "an engine"
    PLANE = "a plane"
    REGION = "a region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What must hold meanwhile; times in seconds, None where nothing is promised.

    `streams_end`: no stream breaks, also not one that ran where the fault is. `back` is of the
    part that was killed, `engines_stay`: no engine that was not hurt is started again.
    """

    streams_end: bool
    engines_stay: bool = True
    moves_max: int | None = 0
    shifted_seconds_max: float | None = SHIFTED_SECONDS_MAX
    detected_seconds_max: float | None = None
    decided_seconds_max: float | None = None
    back_seconds_max: float | None = None
    leader_seconds_max: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill; it lasts `hold_seconds`, or less where it ends by itself.

    `pauses`: SIGSTOP and later SIGCONT; else SIGKILL. `starts_again`: the supervisor must be
    asked to, since it takes such a death for somebody's wish or for a lost machine.
    """

    name: str
    hurts: Hurts
    summary: str
    pauses: bool
    hold_seconds: float
    promises: Promises
    starts_again: bool = False
    ends_by_itself: bool = False


DRILLS = (
    Drill(
        name="control-plane-off",
        hurts=Hurts.CONTROL_PLANES,
        summary="kill -9 of every control plane, started again afterwards",
        pauses=False,
        hold_seconds=20.0,
        starts_again=True,
        promises=Promises(streams_end=True),
    ),
    Drill(
        name="leader-paused",
        hurts=Hurts.LEADER,
        summary="SIGSTOP of the control plane that leads; with a standby, that one takes over",
        pauses=True,
        hold_seconds=15.0,
        promises=Promises(streams_end=True, leader_seconds_max=LEADER_SECONDS_MAX),
    ),
    Drill(
        name="plane-partitioned",
        hurts=Hurts.AGENT,
        summary="SIGSTOP of a plane's agent: cut off from the control plane, it serves on",
        pauses=True,
        hold_seconds=20.0,
        promises=Promises(streams_end=True, detected_seconds_max=DETECTED_SECONDS_MAX),
    ),
    Drill(
        name="plane-killed",
        hurts=Hurts.PLANE,
        summary="kill -9 of every process of a plane, which is started again afterwards",
        pauses=False,
        hold_seconds=90.0,
        starts_again=True,
        ends_by_itself=True,
        promises=Promises(
            streams_end=False,
            moves_max=None,
            detected_seconds_max=DETECTED_SECONDS_MAX,
            decided_seconds_max=DECIDED_SECONDS_MAX,
        ),
    ),
    Drill(
        name="gateway-killed",
        hurts=Hurts.GATEWAY,
        summary="kill -9 of a plane's Envoy, which the supervisor starts again",
        pauses=False,
        hold_seconds=20.0,
        ends_by_itself=True,
        promises=Promises(streams_end=False, back_seconds_max=BACK_SECONDS_MAX),
    ),
    Drill(
        name="agent-killed",
        hurts=Hurts.AGENT,
        summary="kill -9 of a plane's agent, which comes back and adopts its replicas",
        pauses=False,
        hold_seconds=20.0,
        ends_by_itself=True,
        promises=Promises(streams_end=True, back_seconds_max=BACK_SECONDS_MAX),
    ),
    Drill(
        name="engine-killed",
        hurts=Hurts.ENGINE,
        summary="kill -9 of one replica's engine, which its host starts again",
        pauses=False,
        hold_seconds=60.0,
        ends_by_itself=True,
        promises=Promises(streams_end=False),
    ),
    Drill(
        name="region-lost",
        hurts=Hurts.REGION,
        summary="kill -9 of every process of all planes of a region, started again afterwards",
        pauses=False,
        hold_seconds=90.0,
        starts_again=True,
        ends_by_itself=True,
        promises=Promises(
            streams_end=False,
            moves_max=None,
            detected_seconds_max=DETECTED_SECONDS_MAX,
            decided_seconds_max=DECIDED_SECONDS_MAX,
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom a drill hurts: planes by name (none for control planes), and one engine's replica."""

    planes: tuple[str, ...] = ()
    replica: str = ""
    control_planes: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return it as part of a sentence."""
        if self.replica:
            return f"replica {self.replica} of {self.planes[0]}"
        return ", ".join((*self.planes, *self.control_planes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """A plane as fleet.json tells it: which replicas run, by name, and which parts do not."""

    name: str
    cloud: str
    region: str
    replicas: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFacts:
    """What is known of a fleet before a drill."""

    planes: tuple[PlaneRow, ...]
    deployments: tuple[DeploymentRow, ...]
    losses: tuple[LossRow, ...]
    supervised: tuple[Supervised, ...]
    control_planes: tuple[str, ...]
    leader: str = ""


def drill_named(name: str) -> Drill:
    """Return a drill; NotFound lists those there are."""
    for drill in DRILLS:
        if drill.name == name:
            return drill
    raise NotFound(f"no drill {name!r}; there are {', '.join(one.name for one in DRILLS)}")


def choose_target(drill: Drill, facts: FleetFacts, plane: str = "") -> Target:
    """Return whom the drill hurts: the plane named, else the one with the most replicas.

    NotFound for a plane that does not run here.
    """
    if drill.hurts is Hurts.CONTROL_PLANES:
        return Target(control_planes=facts.control_planes)
    if drill.hurts is Hurts.LEADER:
        return Target(control_planes=(facts.leader or facts.control_planes[0],))
    chosen = _plane(facts, plane)
    if drill.hurts is Hurts.REGION:
        region = (chosen.cloud, chosen.region)
        lost = [one.name for one in facts.supervised if (one.cloud, one.region) == region]
        return Target(planes=tuple(lost))
    if drill.hurts is Hurts.ENGINE:
        if not chosen.replicas:
            raise NotFound(f"no replica runs in {chosen.name}; name a plane with --plane")
        return Target(planes=(chosen.name,), replica=chosen.replicas[0])
    return Target(planes=(chosen.name,))


def _plane(facts: FleetFacts, name: str) -> Supervised:
    if not name:
        return max(facts.supervised, key=lambda plane: len(plane.replicas))
    for plane in facts.supervised:
        if plane.name == name:
            return plane
    names = ", ".join(plane.name for plane in facts.supervised)
    raise NotFound(f"no plane {name!r} of `skerry up` here; there are {names}")


def reasons_against(drill: Drill, target: Target, facts: FleetFacts) -> tuple[str, ...]:
    """Return why the fleet is not fit for the drill; none when it is."""
    return (*_not_well(facts), *_not_survived(drill, target, facts))


def _not_well(facts: FleetFacts) -> Iterable[str]:
    for plane in facts.planes:
        if plane.state is not PlaneState.CONNECTED:
            yield f"plane {plane.name} is {plane.state.value} already: {plane.reason}"
    for supervised in facts.supervised:
        if supervised.missing:
            yield f"plane {supervised.name} lacks its {', '.join(supervised.missing)}"
    if not facts.deployments:
        yield "nothing is deployed: there is nobody who could notice"
    for row in facts.deployments:
        if row.replicas_ready < row.replicas_wanted:
            ready = f"{row.replicas_ready} of {row.replicas_wanted} replicas"
            yield f"deployment {row.name} has only {ready} ready"


def _not_survived(drill: Drill, target: Target, facts: FleetFacts) -> Iterable[str]:
    if drill.hurts in (Hurts.PLANE, Hurts.REGION):
        yield from _too_many(target, facts)
    if drill.hurts in (Hurts.PLANE, Hurts.AGENT):
        # An agent's too: nobody but it starts an engine again that dies meanwhile.
        domain, names = FailureDomain.PLANE, set(target.planes)
    elif drill.hurts is Hurts.REGION:
        regions = {(one.cloud, one.region) for one in facts.supervised if one.name in target.planes}
        domain = FailureDomain.REGION
        names = {name for cloud, region in regions for name in (region, f"{cloud}/{region}")}
    elif drill.hurts is Hurts.GATEWAY:
        if len(facts.supervised) < 2:
            yield "there is no other gateway that users could go to"
        return
    else:
        if drill.hurts is Hurts.ENGINE:
            yield from _single(facts.deployments)
        return
    for loss in facts.losses:
        if loss.domain is domain and loss.name in names:
            yield from _left_by(loss, is_lost=drill.hurts is not Hurts.AGENT)


def _too_many(target: Target, facts: FleetFacts) -> Iterable[str]:
    others = len(facts.planes) - len(target.planes)
    if others < WITNESSES_MIN:
        yield (
            f"{others} planes would be left, and {WITNESSES_MIN} must have seen a loss before"
            " anything is placed elsewhere"
        )
    if 2 * len(target.planes) > len(facts.planes):
        yield "more than half of the planes would be silent: the control plane would freeze"


def _single(deployments: Sequence[DeploymentRow]) -> Iterable[str]:
    for row in deployments:
        if row.replicas_ready < 2:
            yield f"deployment {row.name} has no second replica to serve meanwhile"


def _left_by(loss: LossRow, *, is_lost: bool) -> Iterable[str]:
    where = f"{loss.domain} {loss.name}"
    for survivor in loss.survivors:
        if survivor.wanted > 0 and survivor.left <= 0:
            yield f"without {where} nothing of {survivor.deployment} would be left to serve"
        elif is_lost and survivor.shortfall > 0:
            yield f"without {where} the promise to {survivor.deployment} would not hold"
        if is_lost and survivor.unmet_after:
            count = f"{survivor.unmet_after} replicas of {survivor.deployment}"
            yield f"without {where} {count} would find no place"
    for shed in loss.shed if is_lost else ():
        yield f"without {where} {shed.deployment} would give way to others"
