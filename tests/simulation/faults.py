"""What breaks in a simulated world, when, and how it heals; all from the seed.

Each seed breaks a few kinds of things only: all at once would hide what two of them do together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from skerry.fleet.desired import FEATURES
from skerry.fleet.observation import ReplicaState
from tests.simulation.control import SimControlPlane
from tests.simulation.network import drop_process
from tests.simulation.plane import SimPlane
from tests.simulation.store import Backup, Rows
from tests.simulation.world import CONTROL_PLANES, World

KINDS_MIN, KINDS_MAX = 2, 6
PERIOD_SECONDS = (2.0, 9.0)  # between two faults
BACKUP_SECONDS = (3.0, 10.0)
BRIEF, LONG = (0.5, 6.0), (4.0, 26.0)

Heal = Callable[[], None]


@dataclass(slots=True)
class Faults:
    """Breaks things until `end` and mends each after its time; `calm` mends all that is left."""

    world: World
    end: float
    kinds: tuple[str, ...] = ()
    backups: list[Backup] = field(default_factory=list)
    _open: dict[str, Heal] = field(default_factory=dict)

    def begin(self) -> None:
        """Choose what breaks in this world, and start."""
        random = self.world.random
        number = random.randint(KINDS_MIN, KINDS_MAX)
        chosen = random.sample(sorted(FAULTS), number)
        self.kinds = (*chosen, *(kind for kind in self.kinds if kind not in chosen))
        self.world.note("faults", " ".join(self.kinds))
        for plane in self.world.planes.values():
            plane.fragile = "agent-crash" in self.kinds
        if "older-backup" in self.kinds:
            self._back_up()
        self._next()

    def _back_up(self) -> None:
        """Keep copies of the database as it is now and then."""
        world = self.world
        if not world.store.down:
            self.backups.append(world.store.backup())
        if world.now < self.end:
            world.timeline.after(world.random.uniform(*BACKUP_SECONDS), self._back_up)

    def _next(self) -> None:
        world = self.world
        world.timeline.after(world.random.uniform(*PERIOD_SECONDS), self._strike)

    def _strike(self) -> None:
        if self.world.now >= self.end:
            return
        kind = self.world.random.choice(self.kinds)
        (FAULTS | ASKED)[kind](self)
        self._next()

    def breaks(self, what: str, heal: Heal, seconds: tuple[float, float]) -> None:
        """Note that something is broken, and mend it later."""
        world = self.world
        self._open[what] = heal
        world.note("breaks", what)
        world.timeline.after(world.random.uniform(*seconds), lambda: self._mend(what, heal))

    def is_broken(self, what: str) -> bool:
        """Say whether that is broken now."""
        return what in self._open

    def _mend(self, what: str, heal: Heal) -> None:
        if self._open.get(what) is heal:
            del self._open[what]
            self.world.note("mends", what)
            heal()

    def calm(self) -> None:
        """Mend everything."""
        for plane in self.world.planes.values():
            plane.fragile = False
        for what, heal in list(self._open.items()):
            self._mend(what, heal)
        self.world.network.calm()

    def plane(self) -> SimPlane:
        """Choose a plane."""
        return self.world.planes[self.world.random.choice(sorted(self.world.planes))]

    def control(self) -> SimControlPlane:
        """Choose a control plane, mostly the one that leads."""
        leader = self.world.leader
        if leader is not None and self.world.random.random() < 0.7:
            return leader
        return self.world.controls[self.world.random.choice(CONTROL_PLANES)]

    def cut(self, what: str, ways: list[tuple[str, str]], seconds: tuple[float, float]) -> None:
        """Cut paths that are whole now."""
        cut = self.world.network.cut
        fresh = [way for way in ways if way not in cut]
        if not fresh or self.is_broken(what):
            return
        cut.update(fresh)
        self.breaks(what, lambda: cut.difference_update(fresh), seconds)


def _agent_crash(faults: Faults) -> None:
    plane = faults.plane()
    if plane.agent.runs and not faults.is_broken(f"agent {plane.name} hangs"):
        plane.crash()
        drop_process(faults.world.network, plane.agent)
        faults.breaks(f"agent {plane.name} is dead", plane.revive, LONG)


def _agent_pause(faults: Faults) -> None:
    plane = faults.plane()
    if plane.agent.runs:
        plane.agent.pause()
        faults.breaks(f"agent {plane.name} hangs", plane.agent.resume, LONG)


def _control_crash(faults: Faults) -> None:
    control = faults.control()
    if control.process.runs:
        control.crash()
        drop_process(faults.world.network, control.process)
        faults.breaks(f"{control.name} is dead", control.start, LONG)


def _control_pause(faults: Faults) -> None:
    control = faults.control()
    if control.process.runs:
        control.process.pause()
        faults.breaks(f"{control.name} hangs", control.process.resume, LONG)


def _power(faults: Faults) -> None:
    plane = faults.plane()
    down = sum(not other.powered for other in faults.world.planes.values())
    if plane.powered and not down:
        plane.cut_power()
        faults.breaks(f"{plane.name} has no power", plane.restore_power, (6.0, 40.0))


def _partition(faults: Faults) -> None:
    plane = faults.plane()
    ways = [way for c in CONTROL_PLANES for way in ((plane.name, c), (c, plane.name))]
    faults.cut(f"{plane.name} and the control planes", ways, LONG)


def _one_way(faults: Faults) -> None:
    plane, random = faults.plane(), faults.world.random
    ways = [
        (plane.name, name) if random.random() < 0.5 else (name, plane.name)
        for name in CONTROL_PLANES
    ]
    faults.cut(f"one way between {plane.name} and the control planes", ways, LONG)


def _uplink(faults: Faults) -> None:
    ways = [
        way
        for name in CONTROL_PLANES
        for plane in faults.world.planes
        for way in ((plane, name), (name, plane))
    ]
    faults.cut("the control planes' uplink", ways, LONG)


def _peers(faults: Faults) -> None:
    one, other = faults.plane(), faults.plane()
    if one is not other:
        ways = [(one.gateway, other.gateway)]
        if faults.world.random.random() < 0.5:
            ways.append((other.gateway, one.gateway))
        faults.cut(f"gateways {one.name} and {other.name}", ways, LONG)


def _isolation(faults: Faults) -> None:
    """A plane that serves its users and is seen by nobody else."""
    plane = faults.plane()
    ways = [way for c in CONTROL_PLANES for way in ((plane.name, c), (c, plane.name))]
    for other in plane.others:
        ways += [(plane.gateway, other.gateway), (other.gateway, plane.gateway)]
    faults.cut(f"{plane.name} from everything", ways, LONG)


def _stale_views(faults: Faults) -> None:
    """A plane that no peer has seen for a while, and that then loses its link to us as well."""
    plane = faults.plane()
    ways: list[tuple[str, str]] = []
    for other in plane.others:
        ways += [(plane.gateway, other.gateway), (other.gateway, plane.gateway)]
    faults.cut(f"gateway {plane.name} from its peers", ways, (35.0, 50.0))
    link = [way for c in CONTROL_PLANES for way in ((plane.name, c), (c, plane.name))]

    def cut() -> None:
        if faults.world.now < faults.end:
            faults.cut(f"{plane.name} and the control planes", link, (12.0, 20.0))

    faults.world.timeline.after(faults.world.random.uniform(16.0, 22.0), cut)


def _majority(faults: Faults) -> None:
    """More than half of the planes at once, from everything: a fault of the world's or of ours?"""
    world = faults.world
    names = world.random.sample(sorted(world.planes), len(world.planes) // 2 + 1)
    ways: list[tuple[str, str]] = []
    for plane in (world.planes[name] for name in names):
        ways += [way for c in CONTROL_PLANES for way in ((plane.name, c), (c, plane.name))]
        for other in plane.others:
            ways += [(plane.gateway, other.gateway), (other.gateway, plane.gateway)]
    faults.cut(f"{', '.join(sorted(names))} from everything", ways, (8.0, 26.0))


def _replica(faults: Faults) -> None:
    plane = faults.plane()
    live = [r.name for r in plane.replicas.values() if r.state is not ReplicaState.FAILED]
    if live and plane.powered:
        name = faults.world.random.choice(sorted(live))
        faults.world.note("breaks", f"replica {name}")
        plane.end_replica(name, "it crashed")


def _node(faults: Faults) -> None:
    plane = faults.plane()
    if plane.powered and not plane.lost_nodes:
        node = faults.world.random.choice(plane.nodes)
        plane.lose_node(node)
        faults.breaks(f"node {node} of {plane.name}", lambda: plane.regain_node(node), (8.0, 40.0))


def _slow_disk(faults: Faults) -> None:
    plane, random = faults.plane(), faults.world.random
    disk = plane.disk
    if disk.sync_seconds < 1.0:

        def mend() -> None:
            disk.sync_seconds = 0.01

        disk.sync_seconds = random.uniform(1.0, 8.0)
        faults.breaks(f"{plane.name}'s disk takes {disk.sync_seconds:.1f} s", mend, LONG)


def _full_disk(faults: Faults) -> None:
    plane = faults.plane()
    disk = plane.disk
    if not disk.full:

        def mend() -> None:
            disk.full = False

        disk.full = True
        faults.breaks(f"{plane.name}'s disk is full", mend, LONG)


def _torn(faults: Faults) -> None:
    """A power cut of an agent's machine alone, with a disk that had lied."""
    plane = faults.plane()
    if plane.agent.runs:
        plane.crash()
        drop_process(faults.world.network, plane.agent)
        faults.world.note("breaks", f"{plane.name}: {plane.disk.damage()} torn")
        faults.world.damaged(plane)
        faults.breaks(f"agent {plane.name} is dead", plane.revive, BRIEF)


def _clock(faults: Faults) -> None:
    random = faults.world.random
    clock = faults.control().clock if random.random() < 0.7 else faults.plane().clock
    clock.skew_seconds = random.choice((-3600.0, -300.0, 7.0, 3600.0, 86400.0))
    faults.world.note("breaks", f"a clock jumps {clock.skew_seconds:+.0f} s")


def _database(faults: Faults) -> None:
    store = faults.world.store
    if not store.down:

        def mend() -> None:
            store.down = False

        store.down = True
        faults.breaks("the database is away", mend, (1.0, 14.0))


def _restore(faults: Faults, backup: Backup, because: str) -> None:
    """Put another database in its place; every control plane is stopped for that."""
    world = faults.world
    for name in CONTROL_PLANES:
        control = world.controls[name]
        if control.process.alive:
            control.crash()
            drop_process(world.network, control.process)
            faults.breaks(f"{name} is dead", control.start, BRIEF)
    world.store.restore(backup, because)
    age = f"of {backup.at:.1f} s" if backup.at else "with nothing in it"
    world.note("breaks", f"the database is one {age}")


def _older_backup(faults: Faults) -> None:
    """Restored by `skerry restore`, which marks it, or by other means, which do not."""
    if faults.backups:
        because = faults.world.random.choice(("it was restored from a backup", ""))
        _restore(faults, faults.world.random.choice(faults.backups[-3:]), because)


def _lost_database(faults: Faults) -> None:
    _restore(faults, Backup(at=0.0, rows=Rows()), "")


def _region(faults: Faults) -> None:
    """A cloud or a region goes with all of its planes."""
    world = faults.world
    planes = list(world.planes.values())
    if not all(plane.powered for plane in planes):
        return
    chosen = faults.plane().identity
    if world.random.random() < 0.5:
        what, group = chosen.cloud, [p for p in planes if p.identity.cloud == chosen.cloud]
    else:
        what, group = chosen.region, [p for p in planes if p.identity.region == chosen.region]
    for plane in group:
        plane.cut_power()
        drop_process(world.network, plane.agent)

    def mend() -> None:
        for plane in group:
            plane.restore_power()

    faults.breaks(f"{what} is gone: {' '.join(plane.name for plane in group)}", mend, (6.0, 40.0))


def _harsh(faults: Faults) -> None:
    network = faults.world.network
    if not network.harsh:

        def mend() -> None:
            network.harsh = False

        network.harsh = True
        faults.breaks("the network is harsh", mend, LONG)


def _old_release(faults: Faults) -> None:
    """A plane of a release that knows less, until it is upgraded."""
    plane = faults.plane()
    what = f"{plane.name} is of an old release"
    if not plane.agent.runs or faults.is_broken(what):
        return

    def run_with(features: tuple[str, ...]) -> None:
        plane.crash()
        drop_process(faults.world.network, plane.agent)
        plane.holder.features = features
        plane.revive()

    known = faults.world.random.choice((FEATURES[:3], FEATURES[:2]))
    run_with(known)
    faults.breaks(what, lambda: run_with(FEATURES), LONG)


FAULTS: dict[str, Callable[[Faults], None]] = {
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
# Only where a run asks for them: the seeds that are kept choose from the others.
ASKED: dict[str, Callable[[Faults], None]] = {"stale-views": _stale_views}
