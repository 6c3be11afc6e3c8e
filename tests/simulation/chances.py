"""What a seed has happen to its world: faults and changes by chance, each written down as it comes.

Each seed breaks a few kinds of things only: all at once would hide what two of them do together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from skerry.fleet.cordon import Scope
from skerry.fleet.names import pool_name
from skerry.fleet.observation import PlaneState
from tests.simulation.disk import NAME, PREVIOUS, SEEN
from tests.simulation.faults import Faults
from tests.simulation.fleets import GUEST, HANG, PRICES, SOAK, START
from tests.simulation.network import Way, both_ways
from tests.simulation.operators import Operators
from tests.simulation.plane import EVERY_NODE, SimPlane
from tests.simulation.schedule import Happening
from tests.simulation.users import REPLICA_SECONDS
from tests.simulation.world import CONTROL_PLANES, World, pool_of

KINDS_MIN, KINDS_MAX = 2, 6
PERIOD_SECONDS = (2.0, 9.0)  # between two faults
CHANGE_SECONDS = (3.0, 14.0)  # between two changes of operators
BACKUP_SECONDS = (3.0, 10.0)
BRIEF, LONG, OUT = (0.5, 6.0), (4.0, 26.0), (6.0, 40.0)
SILENT, UNTOLD = (8.0, 40.0), (30.0, 90.0)
LATE = (5.2, 12.0)
KILLED_BETWEEN = 0.004  # two actions of one plan
BOTH_TORN, ALL_TORN, TORN = 0.3, 0.2, 0.6  # of disks that lie
LOAD_SECONDS, RAMP_SECONDS = (1.0, 6.0), (5.0, 30.0)
NOBODY, AT_ONCE, SHARE_MAX = 0.2, 0.5, 1.1  # of a plane's part of the largest number, full
MOSTLY_NOBODY = 0.7  # of what may go to zero: the longest mean of a load is of two minutes
POISONED = 0.4  # of new revisions
DIGITS = 3  # of seconds, for people who read a schedule

Seconds = tuple[float, float]


@dataclass(slots=True)
class Chances:
    """Chooses until `end` what happens; `done` is all that did."""

    world: World
    faults: Faults
    operators: Operators
    random: Random
    end: float
    kinds: tuple[str, ...] = ()
    done: list[Happening] = field(default_factory=list)

    def begin(self) -> None:
        """Choose what breaks in this world, and start; `kinds` come on top."""
        number = self.random.randint(KINDS_MIN, KINDS_MAX)
        chosen = self.random.sample(sorted(KINDS), number)
        if self.world.fleet.loaded:
            number = self.random.randint(0, len(SIGNALS))
            chosen += self.random.sample(sorted(SIGNALS), number)
            self._later(LOAD_SECONDS, self._turn_load)
        self.kinds = (*chosen, *(kind for kind in self.kinds if kind not in chosen))
        self.world.tail.append(f"faults of the kinds {' '.join(self.kinds)}")
        if "agent-crash" in self.kinds:
            for plane in self.world.planes.values():
                self._endanger(plane)
        if "older-backup" in self.kinds:
            self._back_up()
        self._later(PERIOD_SECONDS, self._strike)
        self._later(CHANGE_SECONDS, self._change)

    def happens(self, what: str, /, **told: Any) -> None:
        """Let it happen now, and write it down."""
        self.done.append(Happening(at=self.world.now, what=what, told=told))
        self.faults.happen(what, told)

    def asks(self, what: str, /, **told: Any) -> None:
        """Have an operator ask for it now, and write it down."""
        self.done.append(Happening(at=self.world.now, what=what, told=told))
        self.operators.happen(what, told)

    def seconds(self, between: Seconds) -> float:
        """Choose for how long something lasts."""
        return round(self.random.uniform(*between), DIGITS)

    def plane(self) -> SimPlane:
        """Choose a plane."""
        return self.world.planes[self.random.choice(sorted(self.world.planes))]

    def control(self) -> str:
        """Choose a control plane, mostly the one that leads."""
        leader = self.world.leader
        if leader is not None and self.random.random() < 0.7:
            return leader.name
        return self.random.choice(CONTROL_PLANES)

    def _later(self, between: Seconds, act: Callable[[], None]) -> None:
        moment = round(self.world.now + self.random.uniform(*between), DIGITS)
        if moment < self.end:
            self.world.timeline.at(moment, act)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something happen then, if things happen still."""
        self._later((seconds, seconds), act)

    def _strike(self) -> None:
        (KINDS | SIGNALS | ASKED)[self.random.choice(self.kinds)](self)
        self._later(PERIOD_SECONDS, self._strike)

    def _change(self) -> None:
        self.random.choice(CHANGES)(self)
        self._later(CHANGE_SECONDS, self._change)

    def _turn_load(self) -> None:
        self.turn_load()
        self._later(LOAD_SECONDS, self._turn_load)

    def turn_load(self) -> None:
        """Have users of one plane ask for more or less: at once or slowly, or for nothing."""
        random, fleet = self.random, self.world.fleet
        name = random.choice(fleet.loaded)
        scaling = next(d.scaling for d in fleet.deployments if d.name == name)
        share = scaling.max_replicas / len(self.world.planes)
        nobody = NOBODY if scaling.min_replicas else MOSTLY_NOBODY
        busy = 0.0 if random.random() < nobody else random.uniform(0.0, SHARE_MAX * share)
        seconds = 0.0 if random.random() < AT_ONCE else self.seconds(RAMP_SECONDS)
        rate = round(busy / REPLICA_SECONDS, DIGITS)
        plane = self.plane().name
        self.happens("load", plane=plane, deployment=name, rate=rate, seconds=seconds)

    def _back_up(self) -> None:
        """Keep copies of the database as it is now and then."""
        self.happens("backup")
        self._later(BACKUP_SECONDS, self._back_up)

    def _endanger(self, plane: SimPlane) -> None:
        """Have the agent killed in the middle of a plan now and then."""
        noise = self.world.timeline.noise(f"{plane.name}/killed")

        def is_killed(place: int) -> bool:
            killed = noise.random() < KILLED_BETWEEN
            if killed:
                told = {"plane": plane.name, "place": place}
                self.done.append(Happening(at=self.world.now, what="killed-between", told=told))
            return killed

        plane.is_killed = is_killed


def _agent_crash(chances: Chances) -> None:
    plane = chances.plane().name
    chances.happens("agent-crash", plane=plane, seconds=chances.seconds(LONG))


def _agent_pause(chances: Chances) -> None:
    plane = chances.plane().name
    chances.happens("agent-pause", plane=plane, seconds=chances.seconds(LONG))


def _control_crash(chances: Chances) -> None:
    control = chances.control()
    chances.happens("control-crash", control=control, seconds=chances.seconds(LONG))


def _control_pause(chances: Chances) -> None:
    control = chances.control()
    chances.happens("control-pause", control=control, seconds=chances.seconds(LONG))


def _power(chances: Chances) -> None:
    plane = chances.plane().name
    if all(other.powered for other in chances.world.planes.values()):
        what, seconds = f"{plane} has no power", chances.seconds(OUT)
        chances.happens("power-loss", planes=[plane], what=what, seconds=seconds)


def _region(chances: Chances) -> None:
    """A cloud or a region goes with all of its planes."""
    planes = list(chances.world.planes.values())
    if not all(plane.powered for plane in planes):
        return
    chosen = chances.plane().identity
    if chances.random.random() < 0.5:
        what, group = chosen.cloud, [p for p in planes if p.identity.cloud == chosen.cloud]
    else:
        what, group = chosen.region, [p for p in planes if p.identity.region == chosen.region]
    names = [plane.name for plane in group]
    what = f"{what} is gone: {' '.join(names)}"
    chances.happens("power-loss", planes=names, what=what, seconds=chances.seconds(OUT))


def _link_of(plane: SimPlane) -> list[Way]:
    return [way for control in CONTROL_PLANES for way in both_ways(plane.name, control)]


def _sights_of(plane: SimPlane) -> list[Way]:
    return [way for other in plane.others for way in both_ways(plane.gateway, other.gateway)]


def _cut(chances: Chances, what: str, ways: list[Way], between: Seconds = LONG) -> None:
    chances.happens("cut", what=what, ways=ways, seconds=chances.seconds(between))


def _partition(chances: Chances) -> None:
    plane = chances.plane()
    _cut(chances, f"{plane.name} and the control planes", _link_of(plane))


def _one_way(chances: Chances) -> None:
    plane, random = chances.plane().name, chances.random
    ways = [random.choice(both_ways(plane, name)) for name in CONTROL_PLANES]
    _cut(chances, f"one way between {plane} and the control planes", ways)


def _uplink(chances: Chances) -> None:
    ways = [way for plane in chances.world.planes.values() for way in _link_of(plane)]
    _cut(chances, "the control planes' uplink", ways)


def _peers(chances: Chances) -> None:
    one, other = chances.plane(), chances.plane()
    if one is not other:
        ways = both_ways(one.gateway, other.gateway)
        both = chances.random.random() < 0.5
        _cut(chances, f"gateways {one.name} and {other.name}", ways if both else ways[:1])


def _isolation(chances: Chances) -> None:
    """A plane that serves its users and is seen by nobody else."""
    plane = chances.plane()
    _cut(chances, f"{plane.name} from everything", _link_of(plane) + _sights_of(plane))


def _stale_views(chances: Chances) -> None:
    """A plane that no peer has seen for a while, and that then loses its link to us as well."""
    plane = chances.plane()
    _cut(chances, f"gateway {plane.name} from its peers", _sights_of(plane), (35.0, 50.0))

    def cut() -> None:
        _cut(chances, f"{plane.name} and the control planes", _link_of(plane), (12.0, 20.0))

    chances.later(chances.random.uniform(16.0, 22.0), cut)


def _majority(chances: Chances) -> None:
    """More than half of the planes at once, from everything: a fault of the world's or of ours?"""
    planes = chances.world.planes
    names = sorted(chances.random.sample(sorted(planes), len(planes) // 2 + 1))
    ways = [way for n in names for way in _link_of(planes[n]) + _sights_of(planes[n])]
    _cut(chances, f"{', '.join(names)} from everything", ways, (8.0, 26.0))


def _replica(chances: Chances) -> None:
    luck = round(chances.random.random(), DIGITS)
    chances.happens("replica-end", plane=chances.plane().name, luck=luck)


def _node(chances: Chances) -> None:
    plane, node = chances.plane().name, chances.random.choice(EVERY_NODE)
    chances.happens("node-loss", plane=plane, node=node, seconds=chances.seconds((8.0, 40.0)))


def _slow_disk(chances: Chances) -> None:
    plane, sync = chances.plane().name, chances.seconds((1.0, 8.0))
    chances.happens("slow-disk", plane=plane, sync_seconds=sync, seconds=chances.seconds(LONG))


def _full_disk(chances: Chances) -> None:
    plane = chances.plane().name
    chances.happens("full-disk", plane=plane, seconds=chances.seconds(LONG))


def _torn(chances: Chances) -> None:
    plane, random = chances.plane(), chances.random
    both = random.random() < BOTH_TORN
    copies = [NAME, PREVIOUS] if both else [NAME]
    if random.random() < ALL_TORN:
        copies.append(SEEN)
    cuts = [
        {"copy": copy, "at": round(random.random(), DIGITS), "torn": random.random() < TORN}
        for copy in copies
    ]
    seconds = chances.seconds(BRIEF)
    chances.happens("torn-file", plane=plane.name, cuts=cuts, seconds=seconds)


def _clock(chances: Chances) -> None:
    random = chances.random
    process = chances.control() if random.random() < 0.7 else chances.plane().name
    skew = random.choice((-3600.0, -300.0, 7.0, 3600.0, 86400.0))
    chances.happens("clock-jump", process=process, skew_seconds=skew)


def _database(chances: Chances) -> None:
    chances.happens("database-down", seconds=chances.seconds((1.0, 14.0)))


def _older_backup(chances: Chances) -> None:
    because = chances.random.choice(("it was restored from a backup", ""))
    newest = chances.random.randint(1, 3)
    seconds = [chances.seconds(BRIEF) for _ in CONTROL_PLANES]
    chances.happens("older-backup", newest=newest, because=because, seconds=seconds)


def _lost_database(chances: Chances) -> None:
    chances.happens("lost-database", seconds=[chances.seconds(BRIEF) for _ in CONTROL_PLANES])


def _harsh(chances: Chances) -> None:
    chances.happens("harsh-network", seconds=chances.seconds(LONG))


def _held_up(chances: Chances) -> None:
    """For longer than a plane waits for its Welcome: it has dialled anew when its Hello comes."""
    chances.happens("held-up", plane=chances.plane().name, seconds=chances.seconds(LATE))


def _picker_silence(chances: Chances) -> None:
    plane = chances.plane().name
    chances.happens("picker-silence", plane=plane, seconds=chances.seconds(SILENT))


def _picker_restart(chances: Chances) -> None:
    chances.happens("picker-restart", plane=chances.plane().name)


def _hosts_silence(chances: Chances) -> None:
    plane, whole = chances.plane().name, chances.random.random() < 0.5
    seconds = chances.seconds(SILENT)
    chances.happens("hosts-silence", plane=plane, all_of_them=whole, seconds=seconds)


def _loads_untold(chances: Chances) -> None:
    plane = chances.plane().name
    chances.happens("loads-untold", plane=plane, seconds=chances.seconds(UNTOLD))


def _old_release(chances: Chances) -> None:
    plane, features = chances.plane().name, chances.random.choice((3, 2))
    chances.happens("old-release", plane=plane, features=features, seconds=chances.seconds(LONG))


def _prices(chances: Chances) -> None:
    planes = chances.world.planes
    prices = list(PRICES[: len(planes)])
    chances.random.shuffle(prices)
    chances.asks("prices", prices=dict(zip(sorted(planes), prices, strict=True)))


def _scale(chances: Chances) -> None:
    random = chances.random
    wanted = random.choice(chances.world.fleet.deployments)
    named = wanted.scaling.min_replicas
    least = max(min(1, named), named + random.choice((-1, 0, 1)))
    most = max(least, wanted.scaling.max_replicas + random.choice((-1, 0, 1)))
    chances.asks("scale", deployment=wanted.name, least=least, most=max(1, most))


def _guest(chances: Chances) -> None:
    chances.asks("guest", deletes=GUEST.name in chances.world.store.rows.deployments)


def _cordon(chances: Chances) -> None:
    world, random = chances.world, chances.random
    plane = random.choice(sorted(world.planes))
    scope = random.choice((Scope.PLANE, Scope.POOL, Scope.NODE))
    name = {
        Scope.PLANE: plane,
        Scope.POOL: pool_of(plane),
        Scope.NODE: pool_name(plane, random.choice(EVERY_NODE)),
    }[scope]
    draining = random.random() < 0.7
    cordons = world.store.rows.cordons
    if len(cordons) >= 2:
        name = min(cordons)
        scope = cordons[name].part.scope
    lifts = name in cordons
    chances.asks("cordon", scope=scope.value, name=name, draining=draining, lifts=lifts)


def _failover(chances: Chances) -> None:
    away = [
        name
        for name, condition in sorted(chances.world.conditions().items())
        if condition.state in (PlaneState.SUSPECT, PlaneState.DISCONNECTED)
    ]
    if away:
        chances.asks("failover", plane=chances.random.choice(away))


def _revise(chances: Chances) -> None:
    """A new revision; now and then one that fails, of a deployment that has an earlier one."""
    world, random = chances.world, chances.random
    wanted = random.choice(world.fleet.deployments).name
    rollout = world.store.rows.rollouts.get(wanted)
    fails = rollout is not None and rollout.stable and random.random() < POISONED
    poison = random.choice((START, HANG, SOAK)) if fails else ""
    chances.asks("revise", deployment=wanted, poison=poison)


Chance = Callable[[Chances], None]

KINDS: dict[str, Chance] = {
    "agent-crash": _agent_crash,
    "agent-pause": _agent_pause,
    "clock-jump": _clock,
    "control-crash": _control_crash,
    "control-pause": _control_pause,
    "database-down": _database,
    "full-disk": _full_disk,
    "harsh-network": _harsh,
    "isolation": _isolation,
    "lost-database": _lost_database,
    "majority": _majority,
    "node-loss": _node,
    "old-release": _old_release,
    "older-backup": _older_backup,
    "one-way": _one_way,
    "partition": _partition,
    "peer-partition": _peers,
    "power-loss": _power,
    "region-loss": _region,
    "replica-end": _replica,
    "slow-disk": _slow_disk,
    "torn-file": _torn,
    "uplink": _uplink,
}
# Of the load's signals, in worlds that scale by it.
SIGNALS: dict[str, Chance] = {
    "hosts-silence": _hosts_silence,
    "loads-untold": _loads_untold,
    "picker-restart": _picker_restart,
    "picker-silence": _picker_silence,
}
# Only where a run asks for them.
ASKED: dict[str, Chance] = {
    "held-up": _held_up,
    "load": Chances.turn_load,
    "stale-views": _stale_views,
}
LOADS = frozenset({*SIGNALS, "load"})  # worlds that are asked for these scale by load
CHANGES: tuple[Chance, ...] = (
    *(_prices, _scale, _guest, _cordon, _cordon, _failover, _revise, _revise),
)
