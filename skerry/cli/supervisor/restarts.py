"""Which dead process is started again, and when a whole plane counts as lost: pure decisions.

The supervisor asks on every look. A plane whose agent, gateway and replicas are all dead was
lost like a machine: bringing it back is the operator's decision (`skerry up --only NAME`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# Whoever takes a whole plane down does not kill everything in one instant: nothing is started
# again before this much time has passed since the first death was noticed.
SETTLE_SECONDS = 0.5
# What was killed may not be gone yet: SIGKILL waits for the disk that a process waits for, and for
# a core to die on. Without this a plane taken down as a whole was started again: its agent, alive
# half a second after the gateway's death, had been killed with it. Past this it hangs.
ENDING_SECONDS_MAX = 5.0
# A process that lived this long was healthy; its next death is a first one.
HEALTHY_SECONDS = 30.0
BACKOFF_SECONDS_MAX = 30.0


class Role(StrEnum):
    """What a supervised process is."""

    CONTROL_PLANE = "control-plane"
    AGENT = "agent"
    FRONT = "front"
    GATEWAY = "gateway"
    PICKER = "picker"
    RELAY = "relay"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartKey:
    """Which process: its role, and its plane; of control planes the name, the first one's empty."""

    role: Role
    plane: str = ""

    def __str__(self) -> str:
        if self.role is Role.CONTROL_PLANE:
            return self.plane or str(self.role)
        return f"planes/{self.plane}/{self.role}" if self.plane else str(self.role)


def control_plane_key(name: str) -> PartKey:
    """Return the key of the control plane of that name."""
    # Files of before have no name for the only one there was.
    return PartKey(role=Role.CONTROL_PLANE, plane="" if name == Role.CONTROL_PLANE else name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSeen:
    """One process as the supervisor sees it; times of the monotonic clock in seconds.

    `died_at` is when its death was noticed, None while it lives; `restarts` counts those since it
    last was healthy.
    """

    key: PartKey
    died_at: float | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneSeen:
    """A plane's processes, and how many of its replicas' processes live.

    `helpers` are those that the gateway does without while they are dead. `ending`: some were
    killed and are not gone yet.
    """

    name: str
    agent: PartSeen
    front: PartSeen
    gateway: PartSeen
    replicas_alive: int
    helpers: tuple[PartSeen, ...] = ()
    ending: bool = False

    @property
    def parts(self) -> tuple[PartSeen, ...]:
        """Return the supervised processes."""
        return (self.agent, self.front, self.gateway, *self.helpers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Start this process again."""

    key: PartKey


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The whole plane is lost: end what is left of it and start nothing."""

    plane: str


Action = Restart | GiveUp


def plan_plane(plane: PlaneSeen, now: float) -> tuple[Action, ...]:
    """Return what to do about a plane's dead processes."""
    deaths = [part.died_at for part in plane.parts if part.died_at is not None]
    if not deaths or now - min(deaths) < SETTLE_SECONDS:
        return ()
    if plane.ending and now - min(deaths) < ENDING_SECONDS_MAX:
        return ()  # whether the whole plane is lost is known once they are gone
    is_machine_gone = (
        plane.agent.died_at is not None
        and plane.gateway.died_at is not None
        and plane.replicas_alive == 0
    )
    if is_machine_gone:
        return (GiveUp(plane=plane.name),)
    return plan_restarts(plane.parts, now)


def plan_restarts(parts: Iterable[PartSeen], now: float) -> tuple[Restart, ...]:
    """Return those of the dead processes whose pause is over."""
    return tuple(
        Restart(key=part.key)
        for part in parts
        if part.died_at is not None and now - part.died_at >= pause_seconds(part.restarts)
    )


def pause_seconds(restarts: int) -> float:
    """Return how long a dead process stays dead: nothing at first, then 1, 2, 4 ... seconds."""
    if restarts == 0:
        return 0.0
    return min(BACKOFF_SECONDS_MAX, 2.0 ** min(restarts - 1, 10))


def is_soon(part: PartSeen, now: float) -> bool:
    """Say whether a dead process will be back within about a second."""
    if part.died_at is None:
        return False
    return part.died_at + max(SETTLE_SECONDS, pause_seconds(part.restarts)) - now <= 1.0


def restarts_after_death(restarts: int, lived_seconds: float) -> int:
    """Return the count of restarts to go on from: none after a healthy life."""
    return 0 if lived_seconds >= HEALTHY_SECONDS else restarts
