"""What breaks in a simulated world, and how it heals: each by its particulars, nothing by chance.

chances.py chooses them for a seed; a kept schedule has them written down. What cannot break at
that moment, because it is broken already, does nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skerry.fleet.desired import FEATURES
from skerry.fleet.observation import ReplicaState
from tests.simulation.disk import Cut
from tests.simulation.network import drop_process
from tests.simulation.plane import SimPlane
from tests.simulation.store import Backup, Rows
from tests.simulation.world import CONTROL_PLANES, World

Heal = Callable[[], None]


@dataclass(slots=True)
class Faults:
    """Breaks things and mends each after its time; `calm` mends all that is left."""

    world: World
    backups: list[Backup] = field(default_factory=list)
    _open: dict[str, Heal] = field(default_factory=dict)

    def happen(self, what: str, told: Mapping[str, Any]) -> None:
        """Let one of FAULTS happen now."""
        FAULTS[what](self, **told)

    def breaks(self, what: str, heal: Heal, seconds: float) -> None:
        """Note that something is broken, and mend it later."""
        self._open[what] = heal
        self.world.note("breaks", what)
        self.world.timeline.after(seconds, lambda: self._mend(what, heal))

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
            plane.is_killed = lambda place: False
        for what, heal in list(self._open.items()):
            self._mend(what, heal)
        self.world.network.calm()
        for gateway in self.world.users.values():
            gateway.hold()


def _agent_crash(faults: Faults, plane: str, seconds: float) -> None:
    there = faults.world.planes[plane]
    if there.agent.runs and not faults.is_broken(f"agent {plane} hangs"):
        there.crash()
        drop_process(faults.world.network, there.agent)
        faults.breaks(f"agent {plane} is dead", there.revive, seconds)


def _killed_between(faults: Faults, plane: str, place: int) -> None:
    """Kill the agent before that action of the next plan that has so many."""
    there = faults.world.planes[plane]

    def is_killed(asked: int) -> bool:
        if asked != place:
            return False
        there.is_killed = lambda place: False
        return True

    there.is_killed = is_killed


def _agent_pause(faults: Faults, plane: str, seconds: float) -> None:
    agent = faults.world.planes[plane].agent
    if agent.runs:
        agent.pause()
        faults.breaks(f"agent {plane} hangs", agent.resume, seconds)


def _control_crash(faults: Faults, control: str, seconds: float) -> None:
    there = faults.world.controls[control]
    if there.process.runs:
        there.crash()
        drop_process(faults.world.network, there.process)
        faults.breaks(f"{control} is dead", there.start, seconds)


def _control_pause(faults: Faults, control: str, seconds: float) -> None:
    process = faults.world.controls[control].process
    if process.runs:
        process.pause()
        faults.breaks(f"{control} hangs", process.resume, seconds)


def _power_loss(faults: Faults, planes: Sequence[str], what: str, seconds: float) -> None:
    """A plane, or a cloud or a region with all of its planes."""
    group: list[SimPlane] = [faults.world.planes[name] for name in planes]
    if not all(plane.powered for plane in group):
        return
    for plane in group:
        plane.cut_power()
        drop_process(faults.world.network, plane.agent)

    def mend() -> None:
        for plane in group:
            plane.restore_power()

    faults.breaks(what, mend, seconds)


def _cut(faults: Faults, what: str, ways: Iterable[Sequence[str]], seconds: float) -> None:
    """Cut paths that are whole now: (sender, receiver) each."""
    cut = faults.world.network.cut
    fresh = [(way[0], way[1]) for way in ways if (way[0], way[1]) not in cut]
    if not fresh or faults.is_broken(what):
        return
    cut.update(fresh)
    faults.breaks(what, lambda: cut.difference_update(fresh), seconds)


def _replica_end(faults: Faults, plane: str, luck: float) -> None:
    """End one of a plane's replicas: `luck` says how far down their names it is."""
    there = faults.world.planes[plane]
    replicas = there.replicas.values()
    live = sorted(r.name for r in replicas if r.state is not ReplicaState.FAILED)
    if live and there.powered:
        name = live[int(luck * len(live))]
        faults.world.note("breaks", f"replica {name}")
        there.end_replica(name, "it crashed")


def _node_loss(faults: Faults, plane: str, node: str, seconds: float) -> None:
    there = faults.world.planes[plane]
    if there.powered and not there.lost_nodes:
        there.lose_node(node)
        faults.breaks(f"node {node} of {plane}", lambda: there.regain_node(node), seconds)


def _slow_disk(faults: Faults, plane: str, sync_seconds: float, seconds: float) -> None:
    disk = faults.world.planes[plane].disk
    if disk.sync_seconds < 1.0:

        def mend() -> None:
            disk.sync_seconds = 0.01

        disk.sync_seconds = sync_seconds
        faults.breaks(f"{plane}'s disk takes {sync_seconds:.1f} s", mend, seconds)


def _full_disk(faults: Faults, plane: str, seconds: float) -> None:
    disk = faults.world.planes[plane].disk
    if not disk.full:

        def mend() -> None:
            disk.full = False

        disk.full = True
        faults.breaks(f"{plane}'s disk is full", mend, seconds)


def _torn_file(
    faults: Faults, plane: str, cuts: Iterable[Mapping[str, Any]], seconds: float
) -> None:
    """A power cut of an agent's machine alone, with a disk that had lied."""
    there = faults.world.planes[plane]
    if there.agent.runs:
        there.crash()
        drop_process(faults.world.network, there.agent)
        done = there.disk.damage([Cut(**cut) for cut in cuts])
        faults.world.note("breaks", f"{plane}: {' and '.join(done) or 'nothing there'} torn")
        faults.world.damaged(there, done)
        faults.breaks(f"agent {plane} is dead", there.revive, seconds)


def _clock_jump(faults: Faults, process: str, skew_seconds: float) -> None:
    world = faults.world
    there = world.controls.get(process) or world.planes[process]
    there.clock.skew_seconds = skew_seconds
    world.note("breaks", f"a clock jumps {skew_seconds:+.0f} s")


def _database_down(faults: Faults, seconds: float) -> None:
    store = faults.world.store
    if not store.down:

        def mend() -> None:
            store.down = False

        store.down = True
        faults.breaks("the database is away", mend, seconds)


def _backup(faults: Faults) -> None:
    """Keep a copy of the database."""
    if not faults.world.store.down:
        faults.backups.append(faults.world.store.backup())


def _older_backup(faults: Faults, newest: int, because: str, seconds: Sequence[float]) -> None:
    """Restored by `skerry restore`, which marks it, or by other means, which do not.

    `newest`: the how manyth, counted back from the newest.
    """
    if faults.backups:
        backup = faults.backups[-min(newest, len(faults.backups))]
        _restore(faults, backup, because, seconds)


def _lost_database(faults: Faults, seconds: Sequence[float]) -> None:
    _restore(faults, Backup(at=0.0, rows=Rows()), "", seconds)


def _restore(faults: Faults, backup: Backup, because: str, seconds: Sequence[float]) -> None:
    """Put another database in its place; every control plane is stopped for that."""
    world = faults.world
    for name, away in zip(CONTROL_PLANES, seconds, strict=True):
        control = world.controls[name]
        if control.process.alive:
            control.crash()
            drop_process(world.network, control.process)
            faults.breaks(f"{name} is dead", control.start, away)
    world.store.restore(backup, because)
    age = f"of {backup.at:.1f} s" if backup.at else "with nothing in it"
    world.note("breaks", f"the database is one {age}")


def _harsh_network(faults: Faults, seconds: float) -> None:
    network = faults.world.network
    if not network.harsh:

        def mend() -> None:
            network.harsh = False

        network.harsh = True
        faults.breaks("the network is harsh", mend, seconds)


def _held_up(faults: Faults, plane: str, seconds: float) -> None:
    """A plane's stream breaks, and what it says on its next one comes late."""
    network, agent = faults.world.network, faults.world.planes[plane].agent
    if agent.runs:
        network.held_up[agent.name] = seconds
        for stream in [one for one in network.streams if one.client.process is agent]:
            stream.reset()


def _old_release(faults: Faults, plane: str, features: int, seconds: float) -> None:
    """A plane of a release that knows the first so many features, until it is upgraded."""
    there = faults.world.planes[plane]
    what = f"{plane} is of an old release"
    if not there.agent.runs or faults.is_broken(what):
        return

    def run_with(known: tuple[str, ...]) -> None:
        there.crash()
        drop_process(faults.world.network, there.agent)
        there.holder.features = known
        there.revive()

    run_with(FEATURES[:features])
    faults.breaks(what, lambda: run_with(FEATURES), seconds)


def _load(faults: Faults, plane: str, deployment: str, rate: float, seconds: float) -> None:
    """Users of a plane ask for more or less: so many requests a second, at once or in a while."""
    faults.world.note("users", f"{deployment} at {plane}: {rate:.2f}/s within {seconds:.0f} s")
    faults.world.users[plane].turn(deployment, rate, seconds)


def _picker_silence(faults: Faults, plane: str, seconds: float) -> None:
    """A plane's picker answers its users, and not its agent."""
    gateway = faults.world.users[plane]
    if not gateway.is_silent:

        def mend() -> None:
            gateway.is_silent = False

        gateway.is_silent = True
        faults.breaks(f"the picker of {plane} is silent", mend, seconds)


def _picker_restart(faults: Faults, plane: str) -> None:
    faults.world.note("breaks", f"the picker of {plane} counts anew")
    faults.world.users[plane].restart()


def _hosts_silence(faults: Faults, plane: str, all_of_them: bool, seconds: float) -> None:
    """Replicas serve and tell their agent nothing: all of them, or those that are there now."""
    scaler = faults.world.planes[plane].scaler
    if scaler is None or scaler.are_hosts_silent or scaler.silent_hosts:
        return

    def mend() -> None:
        scaler.are_hosts_silent = False
        scaler.silent_hosts.clear()

    names = sorted(faults.world.planes[plane].replicas)
    scaler.are_hosts_silent = all_of_them
    scaler.silent_hosts.update(names[: (len(names) + 1) // 2])
    faults.breaks(f"replica hosts of {plane} are silent", mend, seconds)


def _loads_untold(faults: Faults, plane: str, seconds: float) -> None:
    """A plane is heard, and what it counts is not."""
    link = faults.world.planes[plane].link
    if link.tells_loads:

        def mend() -> None:
            link.tells_loads = True

        link.tells_loads = False
        faults.breaks(f"{plane} does not tell its loads", mend, seconds)


FAULTS: dict[str, Callable[..., None]] = {
    "agent-crash": _agent_crash,
    "agent-pause": _agent_pause,
    "backup": _backup,
    "clock-jump": _clock_jump,
    "control-crash": _control_crash,
    "control-pause": _control_pause,
    "cut": _cut,
    "database-down": _database_down,
    "full-disk": _full_disk,
    "harsh-network": _harsh_network,
    "held-up": _held_up,
    "hosts-silence": _hosts_silence,
    "killed-between": _killed_between,
    "load": _load,
    "loads-untold": _loads_untold,
    "lost-database": _lost_database,
    "node-loss": _node_loss,
    "old-release": _old_release,
    "older-backup": _older_backup,
    "picker-restart": _picker_restart,
    "picker-silence": _picker_silence,
    "power-loss": _power_loss,
    "replica-end": _replica_end,
    "slow-disk": _slow_disk,
    "torn-file": _torn_file,
}
