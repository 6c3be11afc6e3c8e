"""The agent: the facts that its loops share, and the loops themselves.

`main` builds and runs it. What it owns is the memory of one run; all that must outlive it is on
disk or in processes of their own.
"""

import asyncio
import contextlib
import json
import os
from dataclasses import replace

import aiohttp

from skerry.client.enrolment import Door
from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import PlaneReport, ReplicaState, Unknown
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.files import write_atomically
from skerry.plumbing.host_metrics import show_host
from skerry.plumbing.ids import IdSource
from skerry.plumbing.software import software_version
from skerry.plumbing.tasks import Backoff, run_until_stopped, supervise
from workload_plane.agent_http import serve_metrics_forever
from workload_plane.autoscale.asking import HostsAsked, PickerAsked
from workload_plane.autoscale.history import KeptDecision
from workload_plane.autoscale.loop import AutoscaleLoop, AutoscaleParts
from workload_plane.converge.apply import Applier, StartTerms
from workload_plane.converge.discover import GatewayView, HttpProbe, Memory, seen_pools
from workload_plane.converge.loop import ConvergeLoop, LoopParts
from workload_plane.converge.seen import SeenPool
from workload_plane.desired_state.accept import Grant, Refuse
from workload_plane.desired_state.file import DesiredStateFile
from workload_plane.desired_state.holder import DesiredHolder
from workload_plane.gateway.feed import GatewayFeed
from workload_plane.link.client import LinkClient
from workload_plane.link.connection import LinkSettings
from workload_plane.link.renewal import Member, Renewal
from workload_plane.link.report import build_report
from workload_plane.models.cache import ModelCache
from workload_plane.models.limits import FetchLimits
from workload_plane.models.local_checks import LocalChecks
from workload_plane.models.remote import model_session, sources
from workload_plane.picker.demand_watch import DemandWatch
from workload_plane.replicas.choice import choose_runtime
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.supply import Supply
from workload_plane.residency.keeper import ResidencyKeeper, Rules
from workload_plane.residency.served import ServedLog
from workload_plane.settings import PlaneSettings

_log = logs.get_logger(__name__)

STATUS_SECONDS = 1.0  # the agent's own status file is for people
_RESTART = Backoff(initial_seconds=0.2, max_seconds=5.0)


class Agent:
    """One run of a plane's agent; also what the link and the gateway feed ask."""

    def __init__(self, settings: PlaneSettings, clock: Clock, ids: IdSource) -> None:
        """Prepare every part and load the desired state; starts and touches no replica."""
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._software = software_version()
        self._wake = asyncio.Event()
        self._report_changed = asyncio.Event()
        self._routes_changed = asyncio.Event()
        self._desired_changed = asyncio.Event()
        self._seen_changed = asyncio.Event()
        self._scaling_changed = asyncio.Event()
        self._holder = DesiredHolder(
            settings.plane, DesiredStateFile(settings.desired_path), self._desired_changed
        )
        self._holder.load()
        self._hosting = choose_runtime(settings, clock, ids)
        self._runtime = self._hosting.runtime
        self._feed = GatewayFeed(settings, self, self._routes_changed, clock)
        self._demand = DemandWatch(settings.demand_path, clock, picks=settings.gateway.picker)
        self._residency = ResidencyKeeper(
            settings.residency_dir,
            ServedLog(settings.gateway_dir, settings.gateway.admin_port, clock),
            Rules(own=settings.identity.residency_zones, desired=lambda: self._holder.state),
            clock,
            ids,
        )
        self._link: LinkClient | None = None
        self._loop: ConvergeLoop | None = None
        self._autoscale: AutoscaleLoop | None = None
        self._agent_id = ids.new_id()

    @property
    def desired(self) -> DesiredState | Unknown:
        """Return the desired state in force."""
        return self._holder.state

    @property
    def is_desired_newest(self) -> bool:
        """Say whether that is all there was: no newer copy of it is damaged on the disk."""
        return self._holder.fault is None

    @property
    def replicas(self) -> tuple[LiveReplica, ...] | None:
        """Return the replicas as last seen, None before the first look."""
        return self._loop.replicas if self._loop is not None and self._loop.looked else None

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        """Return those of the names of which neither a record nor a process is left."""
        return await self._runtime.gone(names)

    @property
    def planes(self) -> int:
        """Return how many planes the fleet has, as far as this one was told."""
        desired = self._holder.state
        return 1 if isinstance(desired, Unknown) else max(desired.planes, 1 + len(desired.peers))

    def report(self) -> PlaneReport:
        """Return the plane's report on itself."""
        records = [one.record for one in self.replicas or ()]
        # What waits for its base model is no replica yet; people are to see it all the same.
        records += self._loop.awaiting if self._loop is not None else ()
        report = build_report(
            self._settings,
            self._holder.version,
            records,
            self._feed.peers(),
            self._software,
            self._hosting.supply(),
        )
        holder = self._holder
        told = replace(report, held_digest=holder.digest, seen=holder.seen)
        return replace(told, gateway_faults=self._feed.faults)

    def loads(self) -> LoadReport:
        """Return what came in for deployments that scale, and what was decided for them."""
        return self._autoscale.report if self._autoscale is not None else LoadReport()

    def decisions_after(self, number: int) -> tuple[KeptDecision, ...]:
        """Return what the plane's own loop decided after a decision, in order."""
        return self._autoscale.history.after(number) if self._autoscale is not None else ()

    @property
    def evidence(self) -> ResidencyKeeper:
        """Return what tells where requests went."""
        return self._residency

    async def stored(self) -> bytes:
        """Return the desired state as it is on disk, empty when there is none to be read."""
        return await self._holder.stored()

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        """Return the offered state once it is in force and durable, or why it is refused."""
        return await self._holder.offer(payload, self._running)

    async def run(self, stop: asyncio.Event) -> None:
        """Run all loops until `stop` is set; replicas and gateway live on after it."""
        cache_settings, limits = self._settings.model_cache, FetchLimits()
        async with (
            aiohttp.ClientSession() as session,
            model_session(cache_settings, limits) as models_session,
        ):
            models = ModelCache(
                cache_settings,
                sources(cache_settings, models_session, limits),
                self._wake,
                self._clock,
                self._ids,
            )
            checks = LocalChecks(
                self._settings.model_dirs,
                self._wake,
                self._clock,
                allow_pickle=cache_settings.allow_pickle,
            )
            self._autoscale = self._autoscale_loop(session)
            self._loop = self._converge_loop(session, models, checks)
            loops = {
                "converge": self._loop.run,
                "autoscale": self._autoscale.run,
                "models": models.run,
                "changes": self._spread_changes,
                "gateway-publish": self._feed.publish_forever,
                "gateway-hosts": self._feed.resolve_forever,
                "demand": lambda: self._demand.follow(self._wake),
                "gateway-distances": self._feed.measure_forever,
                "gateway-bootstrap": self._feed.keep_bootstrap_forever,
                "gateway-status": lambda: self._feed.poll_forever(
                    session, self._wake, self._report_changed
                ),
                "residency": lambda: self._residency.run(session),
                "status": self._write_status_forever,
            }
            if (run := self._hosting.run) is not None:
                loops["runtime"] = lambda: run(self._wake.set)
                loops["supply"] = self._watch_supply
            if port := self._settings.agent_port:
                tls = self._settings.tls
                show_host(self._clock, self._settings.data_dir, tls.cert if tls else None)
                loops["metrics"] = lambda: serve_metrics_forever(port)
            if (link := self._link_client()) is not None:
                self._link = link
                if (renewal := self._renewal_by(link)) is not None:
                    loops["certificate"] = renewal.run
                # Nobody reports before the first look: "no replicas" would be a false word.
                loops["link"] = lambda: self._link_after_look(link)
            with contextlib.closing(checks):
                await run_until_stopped(
                    *(
                        supervise(name, loop, self._clock, self._ids, stop, _RESTART)
                        for name, loop in loops.items()
                    ),
                    stop=stop,
                )

    def _converge_loop(
        self, session: aiohttp.ClientSession, models: ModelCache, checks: LocalChecks
    ) -> ConvergeLoop:
        settings, memory, runtime = self._settings, Memory(), self._runtime

        def pools() -> tuple[SeenPool, ...]:
            return seen_pools(settings.plane, self._hosting.supply())

        terms = StartTerms(
            model_dirs=settings.model_dirs,
            engine_override=settings.engine_override,
            pools=pools,
            models=models,
            local_checks=checks,
            spreads=settings.ray is not None,
        )
        parts = LoopParts(
            runtime=runtime,
            probe=HttpProbe(session),
            desired=self._holder,
            gateway=self._feed,
            applier=Applier(runtime, memory, terms, self._wake, self._clock, self._ids),
            memory=memory,
            pools=pools,
            clock=self._clock,
            models=models,
            local_checks=checks,
            engine_override=settings.engine_override,
            demand=lambda: self._demand.current,
            wanted=lambda: self._autoscale.wanted if self._autoscale is not None else {},
        )
        return ConvergeLoop(parts, self._wake, self._seen_changed)

    def _autoscale_loop(self, session: aiohttp.ClientSession) -> AutoscaleLoop:
        settings = self._settings
        parts = AutoscaleParts(
            desired=lambda: self._holder.state,
            replicas=lambda: self.replicas,
            pools=lambda: seen_pools(settings.plane, self._hosting.supply()),
            is_heard=lambda: self._link is not None and self._link.has_targets,
            picker=PickerAsked(settings.picker_dir) if settings.gateway.picker else None,
            hosts=HostsAsked(session),
            clock=self._clock,
            period_seconds=settings.autoscale.period_seconds,
            engine_override=settings.engine_override,
        )
        return AutoscaleLoop(parts, self._wake, self._scaling_changed)

    def _link_client(self) -> LinkClient | None:
        settings = self._settings
        if settings.tls is None or not settings.control_planes:
            return None
        link = LinkSettings(
            control_planes=settings.control_planes,
            tls=settings.tls,
            project=settings.project,
            agent_id=self._agent_id,
            server_name=settings.control_plane_server_name,
        )
        return LinkClient(link, self, self._report_changed, self._clock, self._ids)

    def _renewal_by(self, link: LinkClient) -> Renewal | None:
        settings = self._settings
        if settings.tls is None or not settings.join_addresses:
            return None
        member = Member(
            project=settings.project,
            plane=settings.plane,
            files=settings.tls,
            door=Door(
                addresses=settings.join_addresses, server_name=settings.control_plane_server_name
            ),
        )
        return Renewal(member, lambda: link.channel, self._clock, self._ids)

    async def _watch_supply(self) -> None:
        """Report nodes that come, go or break; where they are told once, nobody calls this."""
        before: Supply | None = None
        while True:
            supply = self._hosting.supply()
            if before is not None and supply != before:
                self._report_changed.set()
            before = supply
            await self._clock.sleep(STATUS_SECONDS)

    async def _link_after_look(self, link: LinkClient) -> None:
        while self.replicas is None:
            await self._clock.sleep(0.05)
        await link.run()

    async def _spread_changes(self) -> None:
        """Pass one change on to everybody whom it concerns."""
        while True:
            async with asyncio.TaskGroup() as group:
                waits = [
                    group.create_task(event.wait())
                    for event in (self._desired_changed, self._seen_changed)
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
            if self._desired_changed.is_set():
                self._wake.set()
                self._scaling_changed.set()
            self._desired_changed.clear()
            self._seen_changed.clear()
            self._routes_changed.set()
            self._report_changed.set()

    def _running(self) -> frozenset[Grant]:
        return frozenset(
            (one.record.deployment, one.record.pool)
            for one in self.replicas or ()
            # Of a replica with an unreadable record the pool may not be known: it is kept, and
            # no offered state could name it.
            if one.alive and one.record.pool and one.record.state is not ReplicaState.DRAINING
        )

    async def _write_status_forever(self) -> None:
        before: dict[str, object] = {}
        while True:
            status = self._status()
            if status != before:
                data = json.dumps(status, indent=1).encode() + b"\n"
                # In a thread, as every fsync: heartbeats must not wait for a slow disk.
                await asyncio.to_thread(write_atomically, self._settings.agent_path, data)
                before = status
            # The first look is told as soon as it is done: people wait for it after a restart.
            await self._clock.sleep(STATUS_SECONDS if self.replicas is not None else 0.1)

    def _status(self) -> dict[str, object]:
        link = self._link
        view: GatewayView = self._feed.view
        states = [
            one.record.state.value if one.known else "unreadable" for one in self.replicas or ()
        ]
        return {
            "plane": self._settings.plane,
            "pid": os.getpid(),
            "agent_id": self._agent_id,
            "software": self._software,
            "desired": {
                "held": str(self._holder.version),
                "seen": str(self._holder.seen),
                "fault": self._holder.fault,
            },
            "link": {
                "state": link.state.name.lower() if link is not None else "none",
                "control_plane": link.control_plane if link is not None else "",
                "last_error": link.last_error if link is not None else "",
                "has_targets": link is not None and link.has_targets,
            },
            "gateway": {**self._feed.describe(), "routable": sorted(view.routable)},
            "peers": {peer.plane: peer.verdict.value for peer in self._feed.peers()},
            "replicas": {state: states.count(state) for state in sorted(set(states))},
            "scaling": self._autoscale.describe() if self._autoscale is not None else {},
            "runtime": {"stopped": self._hosting.supply().stopped},
            "waits": [
                {"deployment": wait.deployment, "pool": wait.pool, "reason": wait.reason}
                for wait in (self._loop.waits if self._loop is not None else ())
            ],
        }
