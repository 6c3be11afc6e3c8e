"""The supervisor of one data directory: starts, watches, starts again, and tells fleet.json.

`skerry.cli.supervisor.__main__` runs it. It decides nothing: `restarts` does.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from skerry.cli.supervisor import parts, pki
from skerry.cli.supervisor.fleet_file import RunningReplica, render_fleet
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.log_files import bound_logs
from skerry.cli.supervisor.processes_file import read_living_processes, write_processes
from skerry.cli.supervisor.restarts import (
    Action,
    GiveUp,
    PartKey,
    PartSeen,
    PlaneSeen,
    Restart,
    Role,
    control_plane_key,
    is_soon,
    plan_plane,
    plan_restarts,
    restarts_after_death,
)
from skerry.cli.supervisor.running import running_replicas
from skerry.cli.supervisor.scrape_file import render_targets
from skerry.cli.supervisor.stopping import PART_GRACE_SECONDS, end_all, stop_fleet
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput, SkerryError
from skerry.plumbing.files import write_atomically
from skerry.plumbing.processes import ProcessRecord, is_alive, is_ending
from skerry.plumbing.sealing import Keyring, read_keyring
from skerry.plumbing.tasks import sleep_unless_stopped

_log = logs.get_logger(__name__)

# Reading a hundred entries of /proc takes a millisecond; a dead gateway is missed by users.
LOOK_SECONDS = 0.1
# Reading the replicas' records costs more, and fleet.json promises half a second.
REPLICAS_SECONDS = 0.4
# A log that grows by 10 MB a second is then at most a third of a GiB too long.
LOGS_SECONDS = 30.0
# The disk may be full or the folder away for a while; a certificate has a fortnight left.
RENEWAL_RETRY_SECONDS = 600.0
_PLANE_ROLES = (Role.AGENT, Role.FRONT, Role.GATEWAY)
_HELPER_ROLES = (Role.PICKER, Role.RELAY)
# Not started before there is something for them to do: no death, and nothing is amiss.
_PATIENT_ROLES = (Role.RELAY,)


@dataclass(slots=True)
class Part:
    """One supervised process; `wanted` is off when nothing may start it again by itself.

    `waits`: there is nothing for it to do yet.
    """

    key: PartKey
    record: ProcessRecord | None = None
    last_pid: int | None = None
    started_at: float = 0.0
    died_at: float | None = None
    restarts: int = 0
    wanted: bool = True
    waits: bool = False

    def seen(self) -> PartSeen:
        """Return the part as the decision sees it."""
        return PartSeen(key=self.key, died_at=self.died_at, restarts=self.restarts)


class Supervisor:
    """Holds the processes of a fleet on this host."""

    def __init__(
        self,
        directory: DataDirectory,
        layout: Layout,
        clock: Clock,
        *,
        pid: int,
        restart_control_plane: bool,
    ) -> None:
        """Adopt what already runs; nothing is started before `run`."""
        self._directory = directory
        self._layout = layout
        self._clock = clock
        self._pid = pid
        # Who has standbys asked for a control plane that is always there.
        self._restart_control_plane = restart_control_plane or len(layout.control_planes) > 1
        self._replicas: dict[str, tuple[RunningReplica, ...]] = {}
        self._replicas_read_at = -REPLICAS_SECONDS
        self._written = b""
        self._certificates_seen_at: datetime | None = None
        self._may_renew_at = 0.0
        self._keyring: Keyring | None = None
        self._stop = asyncio.Event()
        self._control_planes = tuple(control_plane_key(one.name) for one in layout.control_planes)
        keys = [*self._control_planes]
        keys += [key for plane in layout.planes for key in _plane_keys(plane.name)]
        self._parts = {key: Part(key=key) for key in keys}
        for key, record in read_living_processes(directory.processes).items():
            if key in self._parts:
                self._hold(self._parts[key], record)
                _log.info("part.adopted", part=str(key), pid=record.pid)

    async def run(self) -> None:
        """Start everything and keep it so until `down` was asked for or the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            logs_task = group.create_task(self._bound_logs())
            await self._supervise()
            logs_task.cancel()

    async def _supervise(self) -> None:
        self._renew_certificates()
        for part in self._parts.values():
            if part.record is None:
                self._start(part)
        while not self._stop.is_set():
            await self._look()
            self._renew_certificates()
            await sleep_unless_stopped(LOOK_SECONDS, self._clock, self._stop)

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a line at the socket asks: `status`, `start` a part by name, or `down`."""
        match request.get("verb"):
            case "status":
                return {"pid": self._pid}
            case "start":
                return {"started": self._start_named(str(request.get("name", "")))}
            case "down":
                return {"ended": await self._down()}
            case verb:
                raise InvalidInput(f"the supervisor knows no verb {verb!r}")

    async def _look(self) -> None:
        now = self._clock.monotonic()
        for part in self._parts.values():
            if part.record is not None and not is_alive(part.record):
                self._note_death(part, now)
        any_dead = any(part.died_at is not None and part.wanted for part in self._parts.values())
        if any_dead or now - self._replicas_read_at >= REPLICAS_SECONDS:
            self._read_replicas(now)
            for part in self._parts.values():
                if part.waits and part.wanted:
                    self._start(part)
        for action in self._decide(now):
            if self._stop.is_set():  # asked for while an action before this one waited
                return
            await self._apply(action)
        self._write_fleet(now)

    def _renew_certificates(self) -> None:
        now, moment = self._clock.now(), self._clock.monotonic()
        if moment < self._may_renew_at or not pki.is_renewal_due(self._certificates_seen_at, now):
            return
        try:
            if self._keyring is None:
                # Once: a store that is away later must not end the renewals.
                self._keyring = read_keyring(self._layout.sealing_keys, os.environ)
            pki.ensure_pki(self._directory, self._layout, now, self._keyring)
        except (SkerryError, OSError, ValueError) as error:
            self._may_renew_at = moment + RENEWAL_RETRY_SECONDS
            _log.error("certificates.not-renewed", error=str(error))
        else:
            self._certificates_seen_at = now

    async def _bound_logs(self) -> None:
        while True:
            # In a thread: copying 64 MiB takes longer than a dead gateway may wait.
            await asyncio.to_thread(bound_logs, self._directory)
            await self._clock.sleep(LOGS_SECONDS)

    def _decide(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for plane in self._layout.planes:
            agent, front, gateway, *helpers = (self._parts[k] for k in _plane_keys(plane.name))
            if not agent.wanted:
                continue
            seen = PlaneSeen(
                name=plane.name,
                agent=agent.seen(),
                front=front.seen(),
                gateway=gateway.seen(),
                replicas_alive=len(self._replicas.get(plane.name, ())),
                helpers=tuple(part.seen() for part in helpers),
                ending=_is_any_ending(agent, front, gateway),
            )
            actions += plan_plane(seen, now)
        if self._restart_control_plane:
            control_planes = (self._parts[key].seen() for key in self._control_planes)
            actions += plan_restarts(control_planes, now)
        return actions

    async def _apply(self, action: Action) -> None:
        match action:
            case Restart():
                part = self._parts[action.key]
                # Waiting for its first start is no restart: the first death is still to come.
                part.restarts += part.last_pid is not None
                self._start(part)
            case GiveUp():
                held = [self._parts[key] for key in _plane_keys(action.plane)]
                left = [part.record for part in held if part.record is not None]
                await end_all(left, self._clock, PART_GRACE_SECONDS)
                for part in held:
                    part.record, part.wanted = None, False
                self._write_processes()
                _log.warning("plane.lost", plane=action.plane, remedy="skerry up --only NAME")

    def _start_named(self, name: str) -> list[str]:
        if control_plane_key(name) in self._control_planes:
            keys: tuple[PartKey, ...] = (control_plane_key(name),)
        else:
            keys = _plane_keys(self._layout.plane(name).name)
        idle = [self._parts[key] for key in keys if self._parts[key].record is None]
        for part in idle:
            part.wanted, part.restarts = True, 0
            self._start(part)
        self._write_fleet(self._clock.monotonic())
        return [str(part.key) for part in idle if not part.waits]

    def _start(self, part: Part) -> None:
        try:
            record = parts.start_part(self._directory, part.key)
        except (SkerryError, OSError) as error:
            # Looked at again like a death: with a pause that grows.
            part.died_at = self._clock.monotonic()
            _log.error("part.not-started", part=str(part.key), error=str(error))
            return
        if record is None:  # not possible yet: looked at again in the next round
            part.waits = part.key.role in _PATIENT_ROLES
            part.died_at = None if part.waits else self._clock.monotonic()
            return
        self._hold(part, record)
        self._write_processes()
        _log.info("part.started", part=str(part.key), pid=record.pid, restarts=part.restarts)

    def _hold(self, part: Part, record: ProcessRecord) -> None:
        part.record, part.last_pid, part.died_at = record, record.pid, None
        part.waits = False
        part.started_at = self._clock.monotonic()

    def _note_death(self, part: Part, now: float) -> None:
        part.record, part.died_at = None, now
        part.restarts = restarts_after_death(part.restarts, now - part.started_at)
        part.wanted = part.key.role is not Role.CONTROL_PLANE or self._restart_control_plane
        self._write_processes()
        _log.warning("part.ended", part=str(part.key), pid=part.last_pid)

    def _read_replicas(self, now: float) -> None:
        self._replicas = {
            plane.name: running_replicas(self._directory.plane(plane.name))
            for plane in self._layout.planes
        }
        self._replicas_read_at = now

    def _write_fleet(self, now: float, supervisor_pid: int | None = None) -> None:
        pids: dict[PartKey, int | None] = {}
        for key, part in self._parts.items():
            is_shown = part.record is not None or (part.wanted and is_soon(part.seen(), now))
            pids[key] = part.last_pid if is_shown else None
        pid = None if self._stop.is_set() else self._pid
        fleet = render_fleet(self._layout, pids, self._replicas, pid)
        data = json.dumps(fleet, indent=1).encode() + b"\n"
        if data != self._written:
            write_atomically(self._directory.fleet, data)
            targets = json.dumps(render_targets(self._layout, fleet), indent=1).encode() + b"\n"
            write_atomically(self._directory.targets, targets)
            self._written = data

    def _write_processes(self) -> None:
        held = {k: part.record for k, part in self._parts.items() if part.record is not None}
        write_processes(self._directory.processes, held)

    async def _down(self) -> int:
        self._stop.set()
        held = {k: part.record for k, part in self._parts.items() if part.record is not None}
        _log.info("fleet.stopping", processes=len(held))
        ended = await stop_fleet(self._directory, held, self._clock)
        for part in self._parts.values():
            part.record, part.wanted = None, False
        self._replicas = {}
        self._write_processes()
        self._write_fleet(self._clock.monotonic())
        _log.info("fleet.stopped", processes=ended)
        return ended


def _is_any_ending(*parts: Part) -> bool:
    """Say whether one of them died and another one was killed, too, but is not gone yet."""
    if all(part.died_at is None for part in parts):
        return False
    return any(part.record is not None and is_ending(part.record) for part in parts)


def _plane_keys(plane: str) -> tuple[PartKey, ...]:
    """Return the keys of a plane's processes: agent, front and gateway, then the helpers."""
    return tuple(PartKey(role=role, plane=plane) for role in (*_PLANE_ROLES, *_HELPER_ROLES))
