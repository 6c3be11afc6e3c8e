"""A site of the simulated world: nodes, replicas, gateway, disk, and the agent that keeps them.

Replicas outlive their agent, the gateway serves on without it; only a loss of power ends all.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from skerry.fleet.desired import DesiredState
from skerry.fleet.node import Node
from skerry.fleet.observation import (
    ObservedReplica,
    PlaneReport,
    ReplicaState,
    Unknown,
)
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape
from tests.simulation.agent import Dial, SimHolder, SimLink
from tests.simulation.disk import SimDisk
from tests.simulation.fleets import HANG, SOAK, START, START_SECONDS_MAX, poison_of
from tests.simulation.network import Network
from tests.simulation.scaling import ScalerParts, SimScaler, Wanted
from tests.simulation.timeline import Process, SimClock, Timeline
from tests.simulation.users import DemandFile, Gateway
from workload_plane.converge import plan as converge
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    ReviveReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.demand import Demand
from workload_plane.converge.seen import (
    Observed,
    SeenPool,
    SeenReplica,
    StartBackoff,
    after_failure,
)
from workload_plane.gateway.status import GatewayStatus, PeerHealth
from workload_plane.gateway.witness import Look, Memory, remember, views_of
from workload_plane.picker.demand_watch import LOOK_SECONDS, DemandWatch

SERVES = PeerHealth(reachable=True, serving=True)
ANSWERS = PeerHealth(reachable=True, serving=False)
SILENT = PeerHealth(reachable=False, serving=False)
TICK_SECONDS = 1.0  # as the convergence loop's
IDLE_SECONDS = 4.0  # nothing to do and nothing that time alone would change
PROBE_SECONDS = 1.0  # of a peer's gateway; two that fail alike change the verdict
POOL = "cpu"
NODES = 4
EVERY_NODE = tuple(f"n{number}" for number in range(NODES))
START_SECONDS = (1.5, START_SECONDS_MAX)
SOAKS_SECONDS = 0.7  # so long a replica serves that ends while it soaks
IN_FLIGHT_SECONDS = 3.0  # of the longest request
LATE_SECONDS = 1.5  # so long a gateway may send to what drains: a push and a health check
LATE = 0.3  # of drains: nothing was in flight when they began, and something came then


def gateway_name(plane: str) -> str:
    """Return the name of a plane's gateway on the network."""
    return f"{plane}:gateway"


@lru_cache
def _shape(nodes: int) -> PoolShape:
    return PoolShape(
        name=POOL,
        accelerator="cpu",
        accelerator_memory_bytes=1024**3,
        nodes=nodes,
        accelerators_per_node=1,
        host_memory_bytes=1024**3,
    )


@lru_cache
def _node(name: str, *, ready: bool) -> Node:
    return Node(name=name, pool=POOL, accelerators=1, ready=ready)


@lru_cache
def _seen_pool(name: str, nodes: tuple[str, ...]) -> SeenPool:
    return SeenPool(
        name=name,
        accelerator="cpu",
        accelerators=len(nodes),
        nodes=nodes,
        accelerators_per_node=1,
        host_memory_bytes=1024**3,
    )


class SimPlane:
    """One workload plane."""

    def __init__(
        self, identity: PlaneIdentity, timeline: Timeline, network: Network, dial: Dial
    ) -> None:
        self.identity = identity
        self.name = identity.name
        self.powered = True
        # Whether the agent is killed before it does an action of a plan, by the action's place.
        self.is_killed: Callable[[int], bool] = lambda place: False
        self.agent = Process(timeline, identity.name)
        self.gateway = gateway_name(identity.name)
        self.clock = SimClock(timeline)
        self.disk = SimDisk(timeline.noise(f"{identity.name}/disk"))
        self.holder = SimHolder(identity.name, self.agent, self.disk)
        self.link = SimLink(self.agent, self.holder, self.report, self.running, dial)
        self.scaler: SimScaler | None = None  # where deployments scale by load
        self._demand: DemandWatch | None = None
        self.replicas: dict[str, SeenReplica] = {}
        self.lost_nodes: set[str] = set()
        self.nodes: tuple[str, ...] = EVERY_NODE  # those that are there
        self._regained_at: dict[str, float] = {}
        self.peers: dict[str, PeerHealth] = {}
        self.others: tuple[SimPlane, ...] = ()
        self.on_action: list[Callable[[SimPlane, Action], None]] = []
        self.on_end: Callable[[SimPlane, str], None] = lambda plane, deployment: None
        self._timeline = timeline
        self._random = timeline.noise(identity.name)
        self._users = timeline.noise(f"{identity.name}/users")
        self._network = network
        self._ready_at: dict[str, float] = {}
        self._poison: dict[str, str] = {}  # how a replica is going to fail, by its name
        self._pids: dict[str, int] = {}
        # When the last request of a draining one came and ends, by its name.
        self._answering: dict[str, tuple[float, float]] = {}
        self.cut: set[str] = set()  # replicas that were ended while they had requests to answer
        self._sighted: Memory = {}
        self._up_at = timeline.now - 60.0  # of the gateway, which outlives its agent
        self._probed: dict[str, PeerHealth] = {}
        self._backoffs: dict[tuple[str, int], StartBackoff] = {}
        self._serial = 0
        self._look_at: float | None = None
        self._planned: tuple[object, ...] = ()
        self._linked = False
        self._report: PlaneReport | None = None
        gateway = f"{identity.name}.example:1"
        self._gateway = GatewayAddresses(http=gateway, grpc=gateway, peer=gateway)

    def scale_by(self, users: Gateway) -> None:
        """Have it scale by what users ask of its gateway."""
        parts = ScalerParts(
            state=lambda: self.holder.state,
            replicas=lambda: list(self.replicas.values()),
            pools=self._pools,
            is_heard=lambda: self.link.has_targets,
            moved=lambda: self._look_in(0.05),
            tell=self.link.tell_loads,
        )
        self.scaler = SimScaler(self.agent, self.clock, users, parts)
        users.woken = lambda: self._look_in(LOOK_SECONDS)
        users.begin()

    # What is seen from outside

    @property
    def pool(self) -> str:
        """Return the fleet-wide id of its one pool."""
        return f"{self.name}--{POOL}"

    def serving(self, deployment: str) -> list[SeenReplica]:
        """Return the replicas whose users get answers."""
        if not self.powered:
            return []
        return [r for r in self.replicas.values() if r.deployment == deployment and r.is_serving]

    @property
    def serves(self) -> bool:
        """Say whether its gateway answers for anything."""
        return self.powered and any(r.is_serving for r in self.replicas.values())

    def nodes_since(self, moment: float) -> list[str]:
        """Return the nodes that are there, and did not come back after that moment."""
        return [node for node in self.nodes if self._regained_at.get(node, moment) <= moment]

    def running(self) -> frozenset[tuple[str, str]]:
        """Return what has live replicas, as the acceptance of a desired state asks."""
        live = (r for r in self.replicas.values() if r.state is not ReplicaState.FAILED)
        return frozenset((r.deployment, r.pool) for r in live)

    @property
    def wanted(self) -> Wanted:
        """Return how many replicas its own loop wants, by deployment and pool."""
        return self.scaler.wanted if self.scaler is not None else {}

    def report(self) -> PlaneReport:
        """Return what the agent tells of itself now; the same value while nothing changes."""
        replicas = tuple(
            ObservedReplica(
                name=r.name,
                deployment=r.deployment,
                revision=r.revision,
                pool=r.pool,
                state=r.state if r.alive else ReplicaState.FAILED,
                engine_pid=self._pids[r.name],
                restarts=r.restarts,
                message=r.fault,
                nodes=r.nodes,
            )
            for r in self.replicas.values()
        )
        report = PlaneReport(
            identity=self.identity,
            pools=(_shape(len(self.nodes)),),
            gateway=self._gateway,
            held=self.holder.version,
            replicas=replicas,
            held_digest=self.holder.digest,
            newest_epoch=self.link.newest_epoch,
            seen=self.holder.seen,
            peers=views_of(self._sighted),
            features=self.holder.features,
            nodes=tuple(_node(node, ready=node in self.nodes) for node in EVERY_NODE),
        )
        if report != self._report:
            self._report = report
        return self._report

    # Its life

    def boot(self) -> None:
        """Start the agent: it loads its disk, adopts what runs and dials."""
        self.agent.start()
        now = self._timeline.now
        for name, replica in self.replicas.items():
            # Moments are of one life of the agent.
            ready = now if replica.state is ReplicaState.READY else None
            draining = now if replica.state is ReplicaState.DRAINING else None
            self.replicas[name] = replace(
                replica, started_at=now, ready_at=ready, draining_since=draining
            )
        self._backoffs.clear()
        self._sighted = {}
        self._planned = ()
        self._look_at = None
        self.holder.load()
        self._linked = False
        if self.scaler is not None:
            self.scaler.boot()
            self._demand = DemandWatch(Path("demand.json"), self.clock, picks=True)
            cast(Any, self._demand)._file = DemandFile(self.scaler.gateway)
        self._look_in(0.05)
        self._probe_for_ever()

    def crash(self) -> None:
        """End the agent alone."""
        self.agent.kill()

    def revive(self) -> None:
        """Have the supervisor start a dead agent again."""
        if self.powered and not self.agent.alive:
            self.boot()

    def cut_power(self) -> None:
        """Lose everything that is not on disk."""
        self.agent.kill()
        self.powered = False
        self.disk.cut_power()
        for name in sorted(self.replicas):
            self.end_replica(name, "the power failed")

    def restore_power(self) -> None:
        """Boot the machines."""
        self.powered = True
        self.peers, self._probed = {}, {}
        self._up_at = self._timeline.now
        if self.scaler is not None:
            self.scaler.gateway.restart()
        self.boot()

    def end_replica(self, name: str, fault: str) -> None:
        """Let a replica's process end by itself."""
        replica = self.replicas[name]
        if replica.state is not ReplicaState.FAILED and replica.alive:
            self.replicas[name] = replace(replica, alive=False, routable=False, fault=fault)
            self._answering.pop(name, None)  # cut by a fault, which its users are told
            self.on_end(self, replica.deployment)
            self._look_in(0.05)

    def lose_node(self, node: str) -> None:
        """Lose a node with what runs on it."""
        self.lost_nodes.add(node)
        self.nodes = tuple(one for one in EVERY_NODE if one not in self.lost_nodes)
        for name, replica in sorted(self.replicas.items()):
            if node in replica.nodes:
                self.end_replica(name, f"{node} is gone")
        self._changed()

    def regain_node(self, node: str) -> None:
        """Have the node back, empty."""
        self.lost_nodes.discard(node)
        self._regained_at[node] = self._timeline.now
        self.nodes = tuple(one for one in EVERY_NODE if one not in self.lost_nodes)
        self._changed()

    def accepted(self, state: DesiredState) -> None:
        """Have the convergence loop look soon: another state is in force."""
        del state
        self._look_in(0.05)
        if self.scaler is not None:
            self.scaler.changed()

    def _changed(self) -> None:
        self.link.changed()
        self._look_in(0.05)

    # Convergence

    def _look_in(self, seconds: float) -> None:
        due = self._timeline.now + seconds
        if not self.agent.alive or (self._look_at is not None and self._look_at <= due):
            return
        self._look_at = due

        def look() -> None:
            if self._look_at == due:
                self._look_at = None
                self._look()

        self.agent.after(seconds, look)

    def _look(self) -> None:
        now = self._timeline.now
        self._refresh(now)
        replicas = tuple(self.replicas[name] for name in sorted(self.replicas))
        observed = Observed(
            replicas=replicas,
            pools=self._pools(),
            backoffs=tuple(self._backoffs.values()),
            wanted=self.scaler.wanted if self.scaler is not None else None,
            demand=self._asked(),
        )
        actions = converge.plan(self.holder.state, observed, now)
        for place, action in enumerate(actions):
            if self.is_killed(place):
                # The rest of the plan is for the next life.
                self.agent.kill()
                self._timeline.after(2.0, self.revive)
                return
            self._apply(action, observed, now)
        if actions:
            self.link.changed()
        waits = any(
            r.state in (ReplicaState.STARTING, ReplicaState.DRAINING)
            or not r.alive
            or self._poison[r.name] == SOAK
            for r in self.replicas.values()
        )
        if not self._linked:  # before the first look it could only tell that nothing runs
            self._linked = True
            self.link.start(f"{self.name}-{self.agent.life}")
        busy = bool(actions) or waits or any(b.retry_at > now for b in self._backoffs.values())
        self._look_in(TICK_SECONDS if busy else IDLE_SECONDS)

    def _asked(self) -> Demand:
        """Return what is asked for, as far as the picker says so."""
        if self._demand is None:
            return {}
        self._demand.look()
        return self._demand.current

    def _pools(self) -> tuple[SeenPool, ...]:
        return (_seen_pool(self.pool, self.nodes),)

    def _refresh(self, now: float) -> None:
        """See which replicas came up, and which draining ones have nothing left to answer."""
        for name, replica in self.replicas.items():
            if replica.state is ReplicaState.STARTING and replica.alive:
                poison = self._poison[name]
                if poison == START:
                    self.replicas[name] = replace(replica, alive=False, fault="poison")
                elif now >= self._ready_at[name] and poison != HANG:
                    self.replicas[name] = replace(
                        replica, state=ReplicaState.READY, routable=True, ready_at=now
                    )
                    self.link.changed()
            elif replica.state is ReplicaState.READY and self._poison[name] == SOAK:
                if replica.alive and now - (replica.ready_at or now) > SOAKS_SECONDS:
                    self.end_replica(name, "poison")
            elif replica.state is ReplicaState.DRAINING:
                came, ends = self._answering.get(name, (0.0, 0.0))
                left = 1 if came <= now < ends else 0
                if replica.in_flight != left:
                    self.replicas[name] = replace(replica, in_flight=left)

    def _apply(self, action: Action, observed: Observed, now: float) -> None:
        random = self._random
        match action:
            case StartReplica():
                self._serial += 1
                name = f"{action.deployment}-{self.name}-{self._serial}"
                self.replicas.pop(action.replaces or "", None)
                self.replicas[name] = SeenReplica(
                    name=name,
                    deployment=action.deployment,
                    revision=action.revision,
                    pool=action.pool,
                    state=ReplicaState.STARTING,
                    nodes=action.nodes,
                    started_at=now,
                    restarts=action.restarts,
                )
                self._ready_at[name] = now + random.uniform(*START_SECONDS)
                self._poison[name] = self._poison_of(action)
                self._pids[name] = self._serial
            case ReviveReplica():
                self._answering.pop(action.name, None)
                self.replicas[action.name] = replace(
                    self.replicas[action.name],
                    state=ReplicaState.READY,
                    routable=True,
                    draining_since=None,
                )
            case DrainReplica():
                held = self.replicas[action.name]
                ends = now + random.uniform(0.0, IN_FLIGHT_SECONDS)
                late = self._users.uniform(0.0, LATE_SECONDS) if self._users.random() < LATE else 0
                self._answering[action.name] = (min(now + late, ends), ends)
                self.replicas[action.name] = replace(
                    held,
                    state=ReplicaState.DRAINING,
                    routable=False,
                    draining_since=now,
                    in_flight=0 if late else 1,
                )
            case FenceReplica():
                held = self.replicas[action.name]
                self._end(action.name, now)
                self._fail(held, observed, now)
                self.replicas[action.name] = replace(
                    held, state=ReplicaState.FAILED, alive=False, routable=False
                )
            case StopReplica() | ForgetReplica():
                self._end(action.name, now)
                self.replicas.pop(action.name, None)
        for told in self.on_action:
            told(self, action)

    def _end(self, name: str, now: float) -> None:
        """End what is left of a replica: whoever waits for its answer gets none."""
        replica = self.replicas.get(name)
        _, ends = self._answering.pop(name, (0.0, 0.0))
        if replica is not None and replica.alive and (replica.is_serving or now < ends):
            self.cut.add(name)

    def _poison_of(self, action: StartReplica) -> str:
        state = self.holder.state
        for assignment in () if isinstance(state, Unknown) else state.assignments:
            if assignment.deployment.name == action.deployment:
                revision = assignment.revision(action.revision)
                return poison_of(revision.engine) if revision is not None else ""
        return ""

    def _fail(self, held: SeenReplica, observed: Observed, now: float) -> None:
        key = (held.deployment, held.revision)
        ready = None if held.ready_at is None else now - held.ready_at
        self._backoffs[key] = after_failure(observed.backoff(*key), ready, now)

    # Peers

    def _probe_for_ever(self) -> None:
        def probe() -> None:
            self._probe()
            self.agent.after(PROBE_SECONDS, probe)

        self.agent.after(self._random.uniform(0.0, PROBE_SECONDS), probe)

    def _probe(self) -> None:
        state = self.holder.state
        known = set() if isinstance(state, Unknown) else {peer.plane for peer in state.peers}
        for other in self.others:
            reached = other.powered and self.sees(other)
            seen = (SERVES if other.serves else ANSWERS) if reached else SILENT
            if self._probed.get(other.name) == seen and self.peers.get(other.name) != seen:
                self.peers[other.name] = seen
            self._probed[other.name] = seen
        status = GatewayStatus(
            live=True,
            versions={},
            rejected={},
            in_flight={},
            hosts={},
            uptime_seconds=int(self._timeline.now - self._up_at),
            peers={name: health for name, health in self.peers.items() if name in known},
        )
        before = self._sighted
        look = Look(at=self.clock.now(), at_seconds=self._timeline.now)
        self._sighted = remember(before, status, sorted(known), look)
        if views_of(self._sighted) != views_of(before):
            self.link.changed()

    def sees(self, other: "SimPlane") -> bool:
        """Say whether the path between both gateways carries both ways."""
        carries = self._network.carries
        return carries(self.gateway, other.gateway) and carries(other.gateway, self.gateway)
