"""Keeps the gateway's files true to what runs, and reads back what the gateway says.

Loops of the agent. The gateway lives from its files when this is dead; what this learns
(routable replicas, requests in flight, peers' health) goes to convergence and to the report.
"""

import asyncio
from pathlib import Path
from typing import Protocol

import aiohttp

from skerry.fleet.desired import DesiredState, PeerPlane
from skerry.fleet.observation import PeerVerdict, PeerView, ReplicaState, Unknown
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.tasks import first_of
from workload_plane.converge.discover import GatewayView
from workload_plane.gateway import files
from workload_plane.gateway.bootstrap import BootstrapKeeper
from workload_plane.gateway.condition import (
    CONFIRM_SECONDS_MAX,
    Watch,
    gateway_faults,
    refused_files,
)
from workload_plane.gateway.consistent import keep_unexplained, replica_names
from workload_plane.gateway.descriptors import descriptor_set
from workload_plane.gateway.distances import PeerDistances, PeerPlace
from workload_plane.gateway.files_beside import FilesBeside
from workload_plane.gateway.fitting import fitted, has_log_cluster, is_logged
from workload_plane.gateway.hosts import LookUp, PeerHosts, look_up
from workload_plane.gateway.instruments import FAULTS
from workload_plane.gateway.known_before import (
    addresses_by_name,
    deployment_names,
    own_address,
    peer_addresses,
)
from workload_plane.gateway.known_keys import KnownKeys
from workload_plane.gateway.known_revoked import KnownRevoked
from workload_plane.gateway.picker_file import build_picker_file
from workload_plane.gateway.program import Programs, ProgramVersions
from workload_plane.gateway.publish import PublishResult, ensure_initial, publish
from workload_plane.gateway.relay_file import build_relay_file
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.rewriting import Rewriting
from workload_plane.gateway.routing import build_endpoints, build_topology, empty_topology
from workload_plane.gateway.status import GatewayStatus, read_status, unconfirmed
from workload_plane.gateway.topology import GatewayTopology
from workload_plane.gateway.witness import Look, Memory, remember, views_of
from workload_plane.replicas.port import LiveReplica
from workload_plane.settings import PlaneSettings

_log = logs.get_logger(__name__)

STATUS_SECONDS = 0.5  # a drain's end and a new replica's turn are noticed within it
# Also without news: a peer's name may resolve by now, a full disk may have room again.
PUBLISH_SECONDS_MAX = 5.0


class PlaneFacts(Protocol):
    """What the feed reads of the agent."""

    @property
    def desired(self) -> DesiredState | Unknown:
        """Return the desired state in force."""
        ...

    @property
    def is_desired_newest(self) -> bool:
        """Say whether that is all there was: no newer copy of it is damaged on the disk."""
        ...

    @property
    def replicas(self) -> tuple[LiveReplica, ...] | None:
        """Return the replicas as last seen, None before the first look."""
        ...

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        """Return those of the names of which neither a record nor a process is left."""
        ...


class GatewayFeed:
    """Publishes to the gateway and listens to it; the only caller of both."""

    def __init__(
        self,
        settings: PlaneSettings,
        facts: PlaneFacts,
        changed: asyncio.Event,
        clock: Clock,
        look_up: LookUp = look_up,
    ) -> None:
        """Publish whenever `changed` is set by whoever changes the facts."""
        self._settings = settings
        self._facts = facts
        self._changed = changed
        self._clock = clock
        self._descriptors = descriptor_set()
        self._published: GatewayTopology | None = None
        self._result: PublishResult | None = None
        self._beside = FilesBeside(settings)
        self._keys = KnownKeys(settings.data_dir)
        self._revoked = KnownRevoked(settings.data_dir)
        self._hosts = PeerHosts(changed, clock, look_up)
        # As last published, also by a run before.
        self._peer_addresses: dict[str, str] = {}
        self._own_address: str | None = None
        self._is_logged = True
        self._distances = PeerDistances(changed, clock)
        self._bootstrap = BootstrapKeeper(settings.gateway_dir, clock, self._programs)
        self._versions = ProgramVersions(settings.gateway.admin_port)
        self._session: aiohttp.ClientSession | None = None
        self._rewriting = Rewriting(settings.gateway_dir)
        self._status: GatewayStatus | None = None
        self._sighted: Memory = {}
        self._answered_at = clock.monotonic()
        self._published_at = clock.monotonic()
        self._settled: PublishResult | None = None
        self._rejected_before: dict[str, int] = {}
        self.faults: tuple[str, ...] = ()
        self.view = GatewayView()
        self.fault = ""

    async def prepare(self) -> None:
        """Make the gateway's files such that it can start, whatever was left of them."""
        directory, own = self._settings.gateway_dir, self._settings.gateway.host
        if not self._settings.gateway.require_keys:
            _log.warning("gateway.open", remedy="gateway.require_keys asks users for an API key")
        directory.mkdir(parents=True, exist_ok=True)
        await self._remember(directory.resolve())
        while (hosts := self._hosts.known([own])).address(own) is None:
            self._changed.clear()
            await self._changed.wait()  # nobody can listen on a name without an address
        empty = empty_topology(self._settings, hosts)
        restored = await asyncio.to_thread(ensure_initial, empty, directory, self._descriptors)
        if restored:
            _log.info("gateway.files-written", files=",".join(restored))

    async def _remember(self, root: Path) -> None:
        """Take the addresses that the gateway uses already, for names that do not resolve now."""
        published = await asyncio.to_thread(files.load_published, root)
        self._is_logged = is_logged(published)
        if published is not None:
            self._peer_addresses = peer_addresses(published)
            self._own_address = own_address(published)
            self._assume(())

    def _assume(self, peers: tuple[PeerPlane, ...]) -> None:
        own = {self._settings.gateway.host: self._own_address} if self._own_address else {}
        self._hosts.assume({**own, **addresses_by_name(peers, self._peer_addresses)})

    async def publish_forever(self) -> None:
        """Publish on every change, and now and then without one."""
        await self.prepare()
        while True:
            self._changed.clear()
            await self._publish()
            await first_of(self._clock.sleep(PUBLISH_SECONDS_MAX), self._changed.wait())

    async def resolve_forever(self) -> None:
        """Look up the peers' names for ever; whatever comes of it, publishing goes on."""
        await self._hosts.resolve_forever()

    async def measure_forever(self) -> None:
        """Measure for ever how far the peers are that the gateway knows."""
        await self._distances.measure_forever(self._places)

    async def keep_bootstrap_forever(self) -> None:
        """Try every changed bootstrap and program before a gateway could be started from it."""
        await self._bootstrap.keep_forever()

    async def _programs(self) -> Programs:
        """Return which Envoy runs and which would be started, once it has what this run told it."""
        if self._settled is None or self._session is None:
            return Programs()
        return await self._versions.ask(self._session, self._clock.monotonic())

    async def poll_forever(
        self, session: aiohttp.ClientSession, wake: asyncio.Event, verdicts: asyncio.Event
    ) -> None:
        """Read the gateway's status for ever; set the events when it or its verdicts changed."""
        self._session = session
        while True:
            port, before = self._settings.gateway.admin_port, (self.peers(), self.faults)
            self._status = await read_status(session, port)
            look = Look(at=self._clock.now(), at_seconds=self._clock.monotonic())
            self._sighted = remember(self._sighted, self._status, self._peer_names(), look)
            self._judge()
            await self._settle()
            if (self.peers(), self.faults) != before:
                verdicts.set()
            view = gateway_view(self._status)
            if view != self.view:
                wake.set()
            self.view = view
            await self._clock.sleep(STATUS_SECONDS)

    def peers(self) -> tuple[PeerView, ...]:
        """Return this gateway's verdict on every peer; unknown for what it has not seen."""
        known = self._peer_names()
        seen = {view.plane: view for view in views_of(self._sighted)}
        return tuple(
            seen.get(peer, PeerView(plane=peer, verdict=PeerVerdict.UNKNOWN)) for peer in known
        )

    def _peer_names(self) -> tuple[str, ...]:
        desired = self._facts.desired
        known = () if isinstance(desired, Unknown) else desired.peers
        return tuple(peer.plane for peer in known if peer.plane != self._settings.plane)

    def describe(self) -> dict[str, object]:
        """Return the state of the gateway for the agent's status file."""
        status, result = self._status, self._result
        return {
            "answers": status is not None,
            "unconfirmed": list(unconfirmed(status, result.versions)) if status and result else [],
            "rejected": dict(status.rejected) if status is not None else {},
            "fault": self.fault,
            "faults": list(self.faults),
            "restart_needed": self._restart_needed() or self._has_other_program(),
            "distances_ms": {
                plane: round(1000 * seconds, 1)
                for plane, seconds in sorted(self._distances.seconds.items())
            },
        }

    def _judge(self) -> None:
        now, status, result = self._clock.monotonic(), self._status, self._result
        if status is not None:
            self._answered_at = now
        self.faults = gateway_faults(
            Watch(
                now=now,
                answered_at=self._answered_at,
                status=status,
                published=result.versions if result is not None else None,
                published_at=self._published_at,
                rejected_before=self._rejected_before,
                refused=self.fault,
                trial=self._bootstrap.fault,
                restart_needed=self._restart_needed(),
            )
        )
        FAULTS.set(len(self.faults))

    def _restart_needed(self) -> bool:
        return self._status is not None and self._bootstrap.is_newer_than(self._status)

    def _has_other_program(self) -> bool:
        return self._status is not None and self._bootstrap.has_tried_program

    async def _settle(self) -> None:
        """Keep what Envoy has confirmed, and put it back where Envoy refused what came after."""
        status, result = self._status, self._result
        if status is not None:
            self._rewriting.saw(status.uptime_seconds)
        if status is None or result is None or result is self._settled:
            return
        root, waiting = self._settings.gateway_dir, unconfirmed(status, result.versions)
        try:
            if not waiting:
                await asyncio.to_thread(files.confirm, root, result.versions)
                self._settled = result
                self._rewriting.taken_up()
            elif self._clock.monotonic() - self._published_at > CONFIRM_SECONDS_MAX and (
                refused := refused_files(status, result.versions, self._rejected_before)
            ):
                self._rewriting.refused(refused, self._clock.monotonic())
                reverted = await asyncio.to_thread(files.revert, root, refused)
                self._settled = result
                _log.error("gateway.refused", files=",".join(refused), reverted=len(reverted))
        except OSError as error:
            _log.warning("gateway.not-settled", error=str(error))

    def _places(self) -> dict[str, PeerPlace]:
        peers = self._published.peers if self._published is not None else ()
        return {peer.plane: PeerPlace(host=peer.host, port=peer.peer_port) for peer in peers}

    async def _publish(self) -> None:
        desired, replicas = self._facts.desired, self._facts.replicas
        if isinstance(desired, Unknown) or replicas is None:
            return  # nothing known is no reason to change what routes
        addresses = [peer.peer_address.rpartition(":")[0] for peer in desired.peers]
        self._assume(desired.peers)
        hosts = self._hosts.known([self._settings.gateway.host, *addresses])
        try:
            # Also where none is asked for: the setting may change while the control plane is away.
            desired = await asyncio.to_thread(self._keys.with_keys, desired)
            desired = await asyncio.to_thread(self._revoked.with_revoked, desired)
            topology = build_topology(
                self._settings, desired, replicas, hosts, self._distances.seconds
            )
            topology = await self._fitted(topology)
            await self._beside.write_endpoints(build_endpoints(self._settings, desired, replicas))
            await self._beside.write_relay(build_relay_file(self._settings, desired, replicas))
            fault = ""
            again = await asyncio.to_thread(self._rewriting.is_due, self._clock.monotonic())
            if again or topology != self._published:
                topology, fault = await self._publish_topology(desired, replicas, topology, again)
            await self._beside.write_picker(build_picker_file(topology))
        except (SkerryError, ValueError, OSError) as error:
            fault = str(error)
        if fault and fault != self.fault:
            _log.error("gateway.not-published", error=fault)
        self.fault = fault

    async def _fitted(self, topology: GatewayTopology) -> GatewayTopology:
        """Return what of it the Envoy that runs can take up, and the next one that is started."""
        directory = self._settings.gateway_dir
        return fitted(
            topology,
            await asyncio.to_thread(files.load_bootstrap, directory),
            runs_with_log=has_log_cluster(self._status, self._is_logged),
        )

    async def _publish_topology(
        self,
        desired: DesiredState,
        replicas: tuple[LiveReplica, ...],
        topology: GatewayTopology,
        again: bool,
    ) -> tuple[GatewayTopology, str]:
        """Publish and return what could be published of it, and what is wrong with the rest."""
        known = await asyncio.to_thread(files.load_published, self._settings.gateway_dir.resolve())
        tombstones: frozenset[str] = frozenset()
        faults: tuple[str, ...] = ()
        if known is not None:
            tombstones = await self._tombstones(desired, replicas, topology, known)
            topology, faults = keep_unexplained(topology, known, tombstones)
        if again or topology != self._published:
            self._rejected_before = dict(self._status.rejected) if self._status else {}
            # A dozen fsyncs: off the loop, or heartbeats would wait for a slow disk.
            self._result = await asyncio.to_thread(self._write_files, topology, tombstones)
            if topology != self._published:  # else what Envoy lacks, it lacks since before
                self._published_at = self._clock.monotonic()
            self._published = topology
            self._is_logged = topology.picks
            self._peer_addresses = {peer.plane: peer.host for peer in topology.peers}
            _log.info("gateway.published", changed=",".join(self._result.changed), again=again)
        return topology, "; ".join(faults)

    def _write_files(self, topology: GatewayTopology, tombstones: frozenset[str]) -> PublishResult:
        """Publish, and take what is on disk then for what should stay there: in one go.

        Between the two, what Envoy refuses could be put back and be taken for it.
        """
        settings = self._settings
        result = publish(topology, settings.gateway_dir, self._descriptors, tombstones)
        self._rewriting.published(result.versions)
        return result

    async def _tombstones(
        self,
        desired: DesiredState,
        replicas: tuple[LiveReplica, ...],
        new: GatewayTopology,
        known: Snapshot,
    ) -> frozenset[str]:
        """Return the names that go knowingly.

        A deployment or a peer goes when an accepted desired state names it no more, a replica when
        it is seen to be out of service or neither record nor process of it is left. What there
        was is read from the files: this agent may be younger. The gateway's own guard catches
        everything else.
        """
        deleted = {a.deployment.name for a in desired.assignments if a.tombstone}
        routed = {replica.name for model in new.models for replica in model.replicas}
        leaving = replica_names(known) - routed
        listed = {one.record.name: one for one in replicas}
        ended = {name for name in leaving & listed.keys() if _is_out(listed[name])}
        gone = await self._facts.gone(leaving - listed.keys())
        if self._facts.is_desired_newest:  # else what it does not name may be newer than it
            deleted |= peer_addresses(known).keys() - {peer.plane for peer in desired.peers}
            deleted |= deployment_names(known) - {a.deployment.name for a in desired.assignments}
        return frozenset(deleted | ended | gone)


def _is_out(one: LiveReplica) -> bool:
    """Say whether the replica is known to serve nobody: it ends, is dead or starts its engine.

    A READY one that leaves the routes is an accident of whoever made them.
    """
    return one.known and (not one.alive or one.record.state is not ReplicaState.READY)


def gateway_view(status: GatewayStatus | None) -> GatewayView:
    """Return what convergence needs of a status; an absent one is unknown, not empty."""
    if status is None:
        return GatewayView()
    local = [host for hosts in status.hosts.values() for host in hosts if host.priority == 0]
    in_flight: dict[str, int] = {}
    for host in local:
        in_flight[host.name] = in_flight.get(host.name, 0) + host.active_requests
    sick = {host.name for host in local if host.healthy is not True}
    return GatewayView(
        known=True,
        routable=frozenset(host.name for host in local if host.name) - sick,
        in_flight=in_flight,
    )
