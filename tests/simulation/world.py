"""A simulated world: two control planes, their planes, and all that may break, in virtual time.

What happens to it schedule.py says; checkers.py watches. What decides is the product's own; what
is simulated is the rest: processes, links, disks, health checks, the database.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from control_plane.reconcile.policy import ReconcilePolicy
from skerry.fleet.observation import PlaneCondition
from skerry.fleet.pool import PoolTerms
from tests.simulation.agent import dialler
from tests.simulation.control import EXACT, SimControlPlane
from tests.simulation.disk import SEEN
from tests.simulation.fleets import FLEETS, LOADED, PRICES, PROFILES
from tests.simulation.network import Network
from tests.simulation.plane import POOL, SimPlane
from tests.simulation.schedule import Happening, Setting
from tests.simulation.store import Entry, SimStore
from tests.simulation.timeline import Process, Timeline
from tests.simulation.users import Gateway
from workload_plane.converge.actions import Action

CONTROL_PLANES = ("cp0", "cp1")
TAIL_LINES = 160


class World:
    """Everything there is, and its history."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.timeline = timeline = Timeline(setting.noise)
        self.fleet = (FLEETS | LOADED)[setting.fleet]
        self.network = Network(timeline)
        self.store = SimStore(timeline)
        # A minute's settling and twenty moves are for days; a world lasts a minute.
        self.policy = ReconcilePolicy(settle_seconds=8.0, moves_per_minute_max=4)
        self.controls = {
            name: SimControlPlane(name, timeline, self.store, self.policy)
            for name in CONTROL_PLANES
        }
        dial = dialler(self.network, self._control_plane)
        self.planes = {
            identity.name: SimPlane(identity, timeline, self.network, dial)
            for identity in self.fleet.planes
        }
        self.users: dict[str, Gateway] = {}  # by plane, where deployments scale by load
        self.happened: list[Happening] = []  # faults and what operators asked for
        self.calm_at = 0.0  # when faults were over and loads stayed, 0 while they are not
        self.acts = 0
        self.broken = ""  # what a checker found first
        self.changed_at: dict[str, float] = {}  # of a deployment, by an operator
        self.least_before: dict[str, tuple[float, int]] = {}  # when asked for, and before that
        self.ends: list[tuple[float, str, str]] = []  # when, on which plane, of which deployment
        self.torn: set[str] = set()  # planes whose newest copy was damaged since it was written
        self.unseen: set[str] = set()  # those of them whose highest version was, which is alone
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._trace = hashlib.sha256()
        self.store.watchers.append(self._stored)
        self._set_up()

    def _set_up(self) -> None:
        planes = tuple(self.planes.values())
        for price, plane in zip(PRICES, planes, strict=False):
            plane.others = tuple(other for other in planes if other is not plane)
            plane.link.control_planes = CONTROL_PLANES
            plane.on_action.append(self._acted)
            plane.on_end = self._ended
            plane.holder.on_accept.append(plane.accepted)
            self.store.rows.terms[plane.pool] = PoolTerms(price_per_accelerator_hour=price)
            if self.fleet.loaded:
                self._load(plane)
            plane.boot()
        if self.fleet.loaded:
            self.store.rows.profiles = PROFILES
        for deployment in self.fleet.deployments:
            self.store.put_deployment(deployment)
        for control in self.controls.values():
            if self.setting.exact:
                control.limits = EXACT
            control.scales = bool(self.fleet.loaded)
            control.start()

    def _load(self, plane: SimPlane) -> None:
        """Have users at a plane; what its gateway has no room for goes to those that it sees."""

        def serving(deployment: str) -> int | None:
            return len(plane.serving(deployment)) if plane.powered else None

        def peers() -> Iterator[Gateway]:
            return (self.users[one.name] for one in plane.others if one.powered and plane.sees(one))

        users = Gateway(self.timeline, self.fleet.loaded, serving)
        users.peers = peers
        self.users[plane.name] = users
        plane.scale_by(users)

    @property
    def now(self) -> float:
        """Return the seconds since the world began."""
        return self.timeline.now

    @property
    def trace(self) -> str:
        """Return a hash of all that was done, to compare two runs."""
        return self._trace.hexdigest()

    @property
    def leader(self) -> SimControlPlane | None:
        """Return the control plane whose epoch leads by the database, if it acts."""
        epoch = self.store.rows.epoch
        return next(
            (c for c in self.controls.values() if c.reign and c.reign.term.epoch == epoch), None
        )

    def conditions(self) -> dict[str, PlaneCondition]:
        """Return how planes are judged, as stored."""
        stored = self.store.rows.planes.items()
        return {name: plane.condition for name, plane in stored if plane.condition is not None}

    def note(self, who: str, what: str) -> None:
        """Remember what was done, for the trace."""
        line = f"{self.now:8.3f} {who:6} {what}"
        self.tail.append(line)
        self._trace.update(line.encode())

    def changed(self, deployment: str) -> None:
        """Remember that an operator changes a deployment's bounds now."""
        self.changed_at[deployment] = self.now
        held = self.store.rows.deployments.get(deployment)
        least = held.deployment.scaling.min_replicas if held is not None else 0
        at, before = self.least_before.get(deployment, (-60.0, least))
        self.least_before[deployment] = (self.now, min(least, before if self.now - at < 9.0 else 9))

    def damaged(self, plane: SimPlane, copies: Iterable[str]) -> None:
        """Remember that a plane's disk lost what it had promised."""
        self.torn.add(plane.name)
        if SEEN in copies:
            self.unseen.add(plane.name)

    def whole(self, plane: str) -> None:
        """Remember that a plane's disk has written all of it anew."""
        self.torn.discard(plane)
        self.unseen.discard(plane)

    def ended_since(self, plane: str, deployment: str, moment: float) -> int:
        """Return how many of its replicas ended there by a fault since then."""
        return sum(
            at >= moment and (plane, deployment) == (where, what) for at, where, what in self.ends
        )

    def _ended(self, plane: SimPlane, deployment: str) -> None:
        self.ends.append((self.now, plane.name, deployment))

    def _control_plane(self, name: str) -> tuple[Process, Callable[..., None]]:
        control = self.controls[name]
        return control.process, control.accept

    def _acted(self, plane: SimPlane, action: Action) -> None:
        self.acts += 1
        self.note(plane.name, action.describe())

    def _stored(self, entry: Entry, told: object) -> None:
        self.note(f"e{entry.epoch}", f"{entry.kind} {entry.subject}")


def pool_of(plane: str) -> str:
    """Return the fleet-wide id of a plane's pool."""
    return f"{plane}--{POOL}"
