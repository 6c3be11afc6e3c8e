"""Replicas as processes of this host: each under its replica host, in a session of its own.

The record is written before the process is started and holds what is needed to find it again,
so that an agent which is killed at any moment finds, after its restart, all that runs.
"""

import asyncio
import dataclasses
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from skerry.fleet.observation import ReplicaState
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, Corrupt, Exhausted, NotFound, SkerryError, Unavailable
from skerry.plumbing.files import clean_temporaries
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.processes import (
    ProcessRecord,
    is_alive,
    kill_group,
    record_of,
    spawn,
    terminate,
    wait_until_gone,
)
from skerry.plumbing.tasks import first_of
from workload_plane.replica_host import state as host_state
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import ReplicaSpec, write_spec
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.records import (
    LOOPBACK,
    ReplicaRecord,
    read_record,
    read_records,
    record_path,
    write_record,
)

_log = logs.get_logger(__name__)

# SIGKILL takes milliseconds; a driver that holds a process longer than this holds its accelerator.
FENCE_SECONDS_MAX = 10.0
_FENCE_LOOK_SECONDS = 0.05
# A host notices its engine's end at once and writes why, with the end of the engine's log.
LAST_WORDS_SECONDS_MAX = 1.0
PORT_TRIES_MAX = 50  # of a range of tens of thousands; more tries mean that it is exhausted

# A crash loop makes 3,000 replicas a day; the last few tell why as well as all of them.
LOGS_OF_GONE_MAX = 20
_LOG_SUFFIX = ".log"
_REPLICA_LOG = re.compile(r"[a-z0-9-]+-r\d+-[0-9a-z]+\.log")

HostCommand = Callable[[Path], Sequence[str]]


def host_command(spec_path: Path) -> Sequence[str]:
    """Return the command that runs a replica host."""
    return (sys.executable, "-m", "workload_plane.replica_host.main", "--spec", str(spec_path))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlace:
    """Where this plane's replicas keep their files, and on which address they listen."""

    plane: str
    replicas_dir: Path
    logs_dir: Path
    host: str = LOOPBACK
    command: HostCommand = host_command


class LocalRuntime:
    """Runs replicas on this machine; the only writer of their records."""

    def __init__(self, place: LocalPlace, clock: Clock) -> None:
        """Make the directories and remove what a killed writer left; touches no replica."""
        self._place = place
        self._clock = clock
        place.replicas_dir.mkdir(parents=True, exist_ok=True)
        place.logs_dir.mkdir(parents=True, exist_ok=True)
        clean_temporaries(place.replicas_dir)
        for directory in place.replicas_dir.iterdir():
            # Killed between the spec and the record: nothing was ever started from it.
            if directory.is_dir() and not record_path(place.replicas_dir, directory.name).exists():
                shutil.rmtree(directory, ignore_errors=True)

    async def start(self, order: ReplicaOrder) -> ReplicaRecord:
        """See ReplicaRuntime."""
        if record_path(self._place.replicas_dir, order.name).exists():
            raise Conflict(f"replica {order.name} exists already; names are used once")
        known = read_records(self._place.replicas_dir)
        taken = {port for record in known for port in record.ports}
        http, grpc, health = _pick_ports(self._place.host, taken)
        record = self._record(
            order,
            devices=_pick_devices(order, known),
            http_port=http,
            grpc_port=grpc,
            health_port=health,
            state=ReplicaState.STARTING,
        )
        spec_path = self._write_spec(order, record)
        # First the record, then the process: a kill between the two leaves a record without a
        # process, which `list` resolves; the other order would leave a process nobody knows.
        write_record(self._place.replicas_dir, record)
        try:
            host = spawn(
                self._place.command(spec_path),
                env=None,
                cwd=None,
                stdout_path=self._place.logs_dir / f"{order.name}{_LOG_SUFFIX}",
            )
        except (OSError, SkerryError) as error:
            await self.forget(order.name)
            raise Unavailable(f"the replica host cannot be started: {error}") from None
        record = _with_host(record, host)
        write_record(self._place.replicas_dir, record)
        return record

    async def list(self) -> tuple[LiveReplica, ...]:
        """See ReplicaRuntime."""
        return tuple(self._look(record) for record in read_records(self._place.replicas_dir))

    async def mark(self, name: str, state: ReplicaState, message: str = "") -> None:
        """See ReplicaRuntime."""
        try:
            record = read_record(record_path(self._place.replicas_dir, name))
        except FileNotFoundError:
            return
        changed = dataclasses.replace(record, state=state, message=message)
        if changed != record:
            write_record(self._place.replicas_dir, changed)

    async def stop(self, record: ReplicaRecord, grace_seconds: float) -> None:
        """See ReplicaRuntime."""
        record = self._look(record).record
        host = record.host_process
        if host is not None:
            await terminate(host, self._clock, grace_seconds)
        await self._confirm_gone(record)
        self._remove(record.name)

    async def kill(self, record: ReplicaRecord, reason: str) -> None:
        """See ReplicaRuntime."""
        record = self._look(record).record
        reason = await self._last_words(record) or reason
        await self._confirm_gone(record)
        gone = dataclasses.replace(
            record,
            state=ReplicaState.FAILED,
            message=reason,
            pid=0,
            engine_pid=0,
            start_time=0.0,
            engine_start_time=0.0,
        )
        write_record(self._place.replicas_dir, gone)

    async def refuse(self, order: ReplicaOrder, reason: str) -> ReplicaRecord:
        """See ReplicaRuntime."""
        record = self._record(order, state=ReplicaState.FAILED, message=reason)
        write_record(self._place.replicas_dir, record)
        return record

    async def forget(self, name: str) -> None:
        """See ReplicaRuntime."""
        try:
            record = read_record(record_path(self._place.replicas_dir, name))
        except FileNotFoundError:
            return
        if any(is_alive(process) for process in _processes(record)):
            raise Conflict(f"replica {name} lives; stop it before it is forgotten")
        self._remove(name)

    async def wait_for_exit(self, record: ReplicaRecord) -> None:
        """See ReplicaRuntime."""
        processes = _processes(record)
        if not processes:
            await asyncio.Event().wait()  # not started yet: the next look has its pid
        await first_of(*(wait_until_gone(process) for process in processes))

    def _record(self, order: ReplicaOrder, **rest: object) -> ReplicaRecord:
        return ReplicaRecord(
            name=order.name,
            deployment=order.deployment,
            revision=order.revision,
            pool=order.pool,
            served_name=order.served_name,
            accelerators=order.accelerators,
            restarts=order.restarts,
            started_at=self._clock.now().isoformat(timespec="milliseconds"),
            **rest,  # type: ignore[arg-type]
        )

    def _directory(self, name: str) -> Path:
        return self._place.replicas_dir / name

    def _write_spec(self, order: ReplicaOrder, record: ReplicaRecord) -> Path:
        directory = self._directory(order.name)
        config_dir = directory / "config"
        log_dir = self._place.logs_dir / order.name
        config_dir.mkdir(parents=True, exist_ok=True)
        log_dir.mkdir(parents=True, exist_ok=True)
        spec = ReplicaSpec(
            name=order.name,
            deployment=order.deployment,
            revision=order.revision,
            plane=self._place.plane,
            pool=order.pool,
            engine=order.engine,
            model_path=order.model_path,
            served_name=order.served_name,
            http_port=record.http_port,
            grpc_port=record.grpc_port,
            health_port=record.health_port,
            config_dir=config_dir,
            log_dir=log_dir,
            state_file=self._state_path(order.name),
            host=self._place.host,
            accelerators=record.devices,
        )
        path = directory / "spec.json"
        write_spec(path, spec)
        return path

    def _state_path(self, name: str) -> Path:
        return self._directory(name) / "state.json"

    def _look(self, record: ReplicaRecord) -> LiveReplica:
        """Return the record brought up to date by what its host wrote, and whether it lives."""
        if record.state is ReplicaState.FAILED and not record.pid:
            return LiveReplica(record=record, alive=False, fault=record.message)
        told = self._told(record.name)
        current = record
        if told is not None:
            current = _with_host(current, told.host)
            if told.engine is not None:
                current = dataclasses.replace(
                    current,
                    engine_pid=told.engine.pid,
                    engine_start_time=told.engine.start_time,
                )
        elif not record.pid:
            current = self._find_host(record)
        if current != record:
            write_record(self._place.replicas_dir, current)
        return LiveReplica(record=current, alive=not (fault := _fault(current, told)), fault=fault)

    def _told(self, name: str) -> host_state.ReplicaRecord | None:
        try:
            return host_state.read_record(self._state_path(name))
        except NotFound:
            return None
        except Corrupt as error:
            _log.warning("replica.state-unreadable", replica=name, fault=str(error))
            return None

    def _find_host(self, record: ReplicaRecord) -> ReplicaRecord:
        # The agent was killed between the start of the process and the note of its pid, and the
        # host has not written its state yet: its command line names the spec.
        spec_path = str(self._directory(record.name) / "spec.json")
        for process in psutil.process_iter(["pid", "cmdline"]):
            if spec_path in (process.info["cmdline"] or ()):
                try:
                    return _with_host(record, record_of(process.info["pid"], "skerry-replica"))
                except NotFound:
                    continue
        return record

    async def _last_words(self, record: ReplicaRecord) -> str:
        """Return what a host whose engine died has to say; it ends by itself right after."""
        host, engine = record.host_process, record.engine_process
        if host is not None and engine is not None and not is_alive(engine):
            await first_of(wait_until_gone(host), self._clock.sleep(LAST_WORDS_SECONDS_MAX))
        told = self._told(record.name)
        return told.message if told is not None and told.state is HostState.FAILED else ""

    async def _confirm_gone(self, record: ReplicaRecord) -> None:
        """Kill whatever is left of the replica and return once nothing is."""
        for process in _processes(record):
            kill_group(process)  # it led a session: its children go too, also orphaned ones
        for process in _processes(record):
            await first_of(wait_until_gone(process), self._clock.sleep(FENCE_SECONDS_MAX))
        deadline = self._clock.monotonic() + FENCE_SECONDS_MAX
        while self._clock.monotonic() < deadline:
            living = [process for process in _processes(record) if is_alive(process)]
            answered = [p for p in record.ports if await is_listening(self._place.host, p)]
            if not living and not answered:
                return
            await self._clock.sleep(_FENCE_LOOK_SECONDS)
        if living:
            pids = ", ".join(str(process.pid) for process in living)
            raise Unavailable(f"replica {record.name} is not gone: process {pids} lives")
        # All that was recorded is gone with its sessions, so a stranger has the port by now;
        # the replacement gets others.
        _log.warning("replica.port-taken", replica=record.name, ports=answered)

    def _remove(self, name: str) -> None:
        record_path(self._place.replicas_dir, name).unlink(missing_ok=True)
        shutil.rmtree(self._directory(name), ignore_errors=True)
        self._prune_logs()

    def _prune_logs(self) -> None:
        """Keep the logs of the replicas there are and of the latest that are gone."""
        records = {record.name for record in read_records(self._place.replicas_dir)}
        gone = [
            path
            for path in self._place.logs_dir.glob(f"*{_LOG_SUFFIX}")
            if _REPLICA_LOG.fullmatch(path.name) and path.stem not in records
        ]
        gone.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in gone[LOGS_OF_GONE_MAX:]:
            path.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _processes(record: ReplicaRecord) -> list[ProcessRecord]:
    return [p for p in (record.host_process, record.engine_process) if p is not None]


def _with_host(record: ReplicaRecord, host: ProcessRecord) -> ReplicaRecord:
    return dataclasses.replace(
        record, pid=host.pid, start_time=host.start_time, boot_id=host.boot_id
    )


def _fault(record: ReplicaRecord, told: host_state.ReplicaRecord | None) -> str:
    """Return why the replica is not alive, empty when it is."""
    ended = told is not None and told.state in (HostState.FAILED, HostState.STOPPED)
    message = told.message if told is not None else ""
    host, engine = record.host_process, record.engine_process
    if ended:
        return message or "its host ended"
    if host is None:
        return "it was never started"
    if not is_alive(host):
        return message or f"its host (pid {host.pid}) is gone"
    if engine is not None and not is_alive(engine):
        return message or f"its engine (pid {engine.pid}) is gone"
    return ""


def _pick_ports(host: str, taken: set[int]) -> tuple[int, int, int]:
    picked: list[int] = []
    for _ in range(PORT_TRIES_MAX):
        port = free_port(host)
        if port not in taken and port not in picked:
            picked.append(port)
        if len(picked) == 3:
            return picked[0], picked[1], picked[2]
    raise Exhausted(f"no three free ports on {host}; too many connections or replicas")


def _pick_devices(order: ReplicaOrder, known: Sequence[ReplicaRecord]) -> tuple[int, ...]:
    if not order.pool_devices:
        return ()
    held = {
        device
        for record in known
        if record.pool == order.pool and record.state is not ReplicaState.FAILED
        for device in record.devices
    }
    free = [device for device in order.pool_devices if device not in held]
    if len(free) < order.accelerators:
        raise Exhausted(
            f"pool {order.pool} has {len(free)} free accelerators, a replica of"
            f" {order.deployment} takes {order.accelerators}"
        )
    return tuple(free[: order.accelerators])
