"""Replicas as processes of this host: each under its replica host, in a session of its own.

The record is written before the process is started and holds what is needed to find it again,
so that an agent which is killed at any moment finds, after its restart, all that runs.
"""

import asyncio
import dataclasses
import os
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    signal_process,
    spawn,
    terminate,
    wait_until_gone,
)
from skerry.plumbing.tasks import first_of
from workload_plane.engine_user import EngineUser
from workload_plane.engines.port import PORT_NUMBERS, worker_ports_wanted
from workload_plane.replica_host import state as host_state
from workload_plane.replica_host.environment import without_credentials
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.marks import left_of
from workload_plane.replica_host.prefix_disk import sweep_beside
from workload_plane.replica_host.spec import ReplicaSpec, write_spec
from workload_plane.replicas.log_files import engine_logs, host_log, prune_logs
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.record_store import VANISHED, RecordStore
from workload_plane.replicas.records import (
    LOOPBACK,
    SUFFIX,
    ReplicaRecord,
    UnreadableRecord,
    record_path,
    write_record,
)
from workload_plane.replicas.recovery import (
    copy_of_record,
    descendants,
    directory_of,
    find_hosts,
    spec_path,
    state_path,
    unknown_record,
    with_told,
)

_log = logs.get_logger(__name__)

# SIGKILL takes milliseconds; a driver that holds a process longer than this holds its accelerator.
FENCE_SECONDS_MAX = 10.0
_FENCE_LOOK_SECONDS = 0.05
# A host notices its engine's end at once and writes why, with the end of the engine's log.
LAST_WORDS_SECONDS_MAX = 1.0
PORT_TRIES_MAX = 50  # of a range of tens of thousands; more tries mean that it is exhausted

HostCommand = Callable[[Path], Sequence[str]]
# Command, log, order.
HostStarter = Callable[[Sequence[str], Path, ReplicaOrder], ProcessRecord]


def host_command(spec_path: Path) -> Sequence[str]:
    """Return the command that runs a replica host."""
    return (sys.executable, "-m", "workload_plane.replica_host.main", "--spec", str(spec_path))


def start_host(command: Sequence[str], log: Path, order: ReplicaOrder) -> ProcessRecord:
    """Start a replica host as a child in a session of its own."""
    del order
    return spawn(command, env=without_credentials(os.environ), cwd=None, stdout_path=log)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlace:
    """Where this plane's replicas keep their files, and on which address they listen."""

    plane: str
    replicas_dir: Path
    logs_dir: Path
    host: str = LOOPBACK
    command: HostCommand = host_command
    start_host: HostStarter = start_host
    device_locks_dir: Path | None = None  # None: the accelerators are fenced by somebody else
    engine_user: EngineUser | None = None
    engine_environment: tuple[str, ...] = ()
    trace_endpoint: str = ""  # where spans of replicas go
    prefix_disk_dir: Path | None = None  # below it are the directories of replicas with such
    reserved_ports: frozenset[int] = frozenset()  # of processes beside, also while they are down
    tidies: bool = True  # not where another runtime of the same node may be writing


class LocalRuntime:
    """Runs replicas on this machine; the only writer of their records."""

    def __init__(self, place: LocalPlace, clock: Clock) -> None:
        """Make the directories and remove what a killed writer left; touches no replica."""
        self._place = place
        self._clock = clock
        # Between the reading of a record and its writing nobody else may write it.
        self._lock = asyncio.Lock()
        self._starting = asyncio.Lock()  # two at once would pick the same ports and accelerators
        self._told_faults: dict[tuple[str, str], str] = {}
        place.replicas_dir.mkdir(parents=True, exist_ok=True)
        self._records = RecordStore(place.replicas_dir)
        place.logs_dir.mkdir(parents=True, exist_ok=True)
        if place.tidies:
            clean_temporaries(place.replicas_dir)
            self._clear_directories()
            sweep_beside(place.prefix_disk_dir)

    async def start(self, order: ReplicaOrder) -> ReplicaRecord:
        """See ReplicaRuntime."""
        async with self._starting:
            return await self._start(order)

    async def _start(self, order: ReplicaOrder) -> ReplicaRecord:
        if self._records.has(order.name):
            raise Conflict(f"replica {order.name} exists already; names are used once")
        live = await self.list()
        taken = self._place.reserved_ports.union(*(one.record.ports for one in live))
        workers = worker_ports_wanted(order.engine)
        numbers = frozenset(one.record.http_port % PORT_NUMBERS for one in live)
        http, grpc, health, *others = _pick_ports(self._place.host, taken, 3 + workers, numbers)
        record = self._record(
            order,
            devices=_pick_devices(order, live),
            http_port=http,
            grpc_port=grpc,
            health_port=health,
            worker_ports=tuple(others),
            state=ReplicaState.STARTING,
        )
        async with self._lock:
            # First the record, then the process: a kill between the two leaves a record without
            # a process, which `list` resolves; the other order would leave one nobody knows.
            spec = await asyncio.to_thread(self._write_files, order, record)
            await self._records.save(record)
            try:
                log = host_log(self._place.logs_dir, order.name)
                host = self._place.start_host(self._place.command(spec), log, order)
            except (OSError, SkerryError) as error:
                await self._remove(order.name)
                raise Unavailable(f"the replica host cannot be started: {error}") from None
            record = _with_host(record, host)
            await self._records.keep(record)  # it runs: a full disk does not undo that
        return record

    async def list(self) -> tuple[LiveReplica, ...]:
        """See ReplicaRuntime."""
        async with self._lock:
            found = [one for one in self._records.found().values() if await self._is_there(one)]
            looks = [await self._look_at(one) for one in found]
        return tuple(one for one in looks if one is not None)

    async def _is_there(self, found: ReplicaRecord | UnreadableRecord) -> bool:
        last = self._records.last(found.name)
        if isinstance(found, ReplicaRecord) or found.fault != VANISHED or last is None:
            return True
        if await self._is_running(last):
            return True
        self._records.drop(found.name)  # forgotten, perhaps by another runtime of this node
        return False

    async def _is_running(self, record: ReplicaRecord) -> bool:
        if any(is_alive(process) for process in _processes(record)):
            return True
        spec = spec_path(self._place.replicas_dir, record.name)
        hosts = await asyncio.to_thread(find_hosts, [spec])
        return bool(hosts) or await self._may_live(record.name)

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        """See ReplicaRuntime."""
        root = self._place.replicas_dir
        absent = {spec_path(root, name): name for name in names - self._records.found().keys()}
        if not absent:
            return frozenset()
        hosts = await asyncio.to_thread(find_hosts, absent.keys())
        ended = [name for path, name in absent.items() if path not in hosts]
        try:
            return frozenset(ended) - (await self._left(ended)).keys()
        except Unavailable as error:  # what cannot be told, lives
            _log.warning("replica.processes-not-told", replicas=len(ended), fault=str(error))
            return frozenset()

    async def mark(
        self, name: str, state: ReplicaState, message: str = "", start_seconds: float | None = None
    ) -> None:
        """See ReplicaRuntime."""
        async with self._lock:
            try:
                record = self._records.read(name)
            except FileNotFoundError:
                return
            changed = dataclasses.replace(
                record,
                state=state,
                message=message,
                start_seconds=record.start_seconds if start_seconds is None else start_seconds,
            )
            if changed != record:
                await self._records.keep(changed)

    async def stop(self, record: ReplicaRecord, grace_seconds: float) -> None:
        """See ReplicaRuntime."""
        record, _ = await self._refresh(record)
        processes = (*_processes(record), *descendants(record))
        host = record.host_process
        if host is not None:
            await terminate(host, self._clock, grace_seconds)
        await self._confirm_gone(record, processes)
        async with self._lock:
            await self._remove(record.name)

    async def kill(self, record: ReplicaRecord, reason: str) -> None:
        """See ReplicaRuntime."""
        record, _ = await self._refresh(record)
        processes = (*_processes(record), *descendants(record))
        reason = await self._last_words(record) or reason
        await self._confirm_gone(record, processes)
        gone = dataclasses.replace(
            record,
            state=ReplicaState.FAILED,
            message=reason,
            pid=0,
            engine_pid=0,
            start_time=0.0,
            engine_start_time=0.0,
        )
        async with self._lock:
            await self._records.keep(gone)

    async def refuse(self, order: ReplicaOrder, reason: str) -> ReplicaRecord:
        """See ReplicaRuntime."""
        record = self._record(order, state=ReplicaState.FAILED, message=reason)
        spec = spec_path(self._place.replicas_dir, order.name)
        async with self._lock:
            hosts = await asyncio.to_thread(find_hosts, [spec])
            if hosts or self._records.has(order.name):
                raise Conflict(f"replica {order.name} exists already; it is not refused")
            await self._records.save(record)
        return record

    async def forget(self, name: str) -> None:
        """See ReplicaRuntime."""
        async with self._lock:
            try:
                record = self._records.read(name)
            except FileNotFoundError:
                return
            living = any(is_alive(process) for process in _processes(record))
            if living or await self._left([name]):
                raise Conflict(f"replica {name} lives; stop it before it is forgotten")
            await self._remove(name)

    async def wait_for_exit(self, record: ReplicaRecord) -> None:
        """See ReplicaRuntime."""
        processes = _processes(record)
        if not processes:
            await asyncio.Event().wait()  # not started yet: the next look has its pid
        await first_of(*(wait_until_gone(process) for process in processes))

    def _clear_directories(self) -> None:
        root = self._place.replicas_dir
        bare = [
            path
            for path in root.iterdir()
            if path.is_dir() and not record_path(root, path.name).exists()
        ]
        hosts = find_hosts([spec_path(root, path.name) for path in bare]) if bare else {}
        left = left_of({path.name: state_path(root, path.name) for path in bare})
        for path in bare:
            if spec_path(root, path.name) in hosts or path.name in left:
                # Its record is lost and it lives: an empty record keeps its place.
                record_path(root, path.name).touch()
            else:
                # Killed between the spec and the record: nothing was ever started from it.
                shutil.rmtree(path, ignore_errors=True)

    def _record(self, order: ReplicaOrder, **rest: object) -> ReplicaRecord:
        return ReplicaRecord(
            name=order.name,
            deployment=order.deployment,
            revision=order.revision,
            pool=order.pool,
            served_name=order.served_name,
            accelerators=order.accelerators,
            nodes=order.nodes,
            host_memory_bytes=order.host_memory_bytes,
            restarts=order.restarts,
            failures=order.failures,
            started_at=self._clock.now().isoformat(timespec="milliseconds"),
            host=self._place.host,
            **rest,  # type: ignore[arg-type]
        )

    def _write_files(self, order: ReplicaOrder, record: ReplicaRecord) -> Path:
        """Write the host's spec and the copy of the record; return the spec's path."""
        root = self._place.replicas_dir
        directory = directory_of(root, order.name)
        config_dir = directory / "config"
        log_dir = engine_logs(self._place.logs_dir, order.name)
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
            state_file=state_path(root, order.name),
            host=self._place.host,
            accelerators=record.devices,
            restarts=order.restarts,
            failures=order.failures,
            worker_ports=record.worker_ports,
            device_locks_dir=self._place.device_locks_dir,
            prefix_disk_dir=self._place.prefix_disk_dir,
            nodes=max(1, len(order.nodes)),
            engine_user=self._place.engine_user,
            engine_environment=self._place.engine_environment,
            trace_endpoint=self._place.trace_endpoint,
        )
        path = spec_path(root, order.name)
        write_spec(path, spec)
        write_record(directory, record)
        return path

    async def _look_at(self, found: ReplicaRecord | UnreadableRecord) -> LiveReplica | None:
        """Return the replica as it is now, None when nothing but a damaged file was left of it."""
        if isinstance(found, ReplicaRecord):
            self._settle("replica.record-unreadable", found.name)
            return await self._look(found)
        self._complain("replica.record-unreadable", found.name, found.fault)
        root = self._place.replicas_dir
        record = self._records.last(found.name) or copy_of_record(root, found.name)
        if record is not None:
            return await self._look(record, rebuilt=True)
        record = unknown_record(found.name, self._told(found.name), found.fault)
        processes = _processes(record)
        if not any(is_alive(process) for process in processes):
            hosts = await asyncio.to_thread(find_hosts, [spec_path(root, found.name)])
            if not hosts:
                for process in processes:
                    kill_group(process)  # what a dead leader of a session may have left
                if await self._may_live(found.name, kill=True):  # the next look finds it gone
                    return LiveReplica(record=record, alive=True, fault=found.fault, known=False)
                await self._remove(found.name)
                _log.info("replica.record-removed", replica=found.name, reason="nothing runs")
                return None
            record = _with_host(record, next(iter(hosts.values())))
        return LiveReplica(record=record, alive=True, fault=found.fault, known=False)

    async def _look(self, record: ReplicaRecord, *, rebuilt: bool = False) -> LiveReplica:
        """Return the record brought up to date by what its host wrote, and whether it lives."""
        current, told = await self._refresh(record)
        changed = rebuilt or current != record or self._records.is_unwritten(record.name)
        if changed and await self._records.keep(current) and rebuilt:
            _log.info("replica.record-rebuilt", replica=record.name)
        self._records.saw(current)
        if _is_fenced(current):
            return LiveReplica(record=current, alive=False, fault=current.message)
        fault = _fault(current, told)
        given_up = told is not None and told.state is HostState.FAILED
        return LiveReplica(record=current, alive=not fault, fault=fault, given_up=given_up)

    async def _refresh(
        self, record: ReplicaRecord
    ) -> tuple[ReplicaRecord, host_state.ReplicaRecord | None]:
        if _is_fenced(record):
            return record, None
        told = self._told(record.name)
        if told is not None:
            return with_told(record, told), told
        if not record.pid:
            # The agent was killed between the start of the process and the note of its pid, and
            # the host has not written its state yet: its command line names the spec.
            path = spec_path(self._place.replicas_dir, record.name)
            for host in (await asyncio.to_thread(find_hosts, [path])).values():
                return _with_host(record, host), None
        return record, None

    def _told(self, name: str) -> host_state.ReplicaRecord | None:
        try:
            told = host_state.read_record(state_path(self._place.replicas_dir, name))
        except NotFound:
            return None
        except (Corrupt, OSError) as error:
            self._complain("replica.state-unreadable", name, str(error))
            return None
        self._settle("replica.state-unreadable", name)
        return told

    def _complain(self, event: str, name: str, fault: str) -> None:
        """Log the fault unless it was logged and lasts."""
        if self._told_faults.get((event, name)) != fault:
            self._told_faults[event, name] = fault
            _log.warning(event, replica=name, fault=fault)

    def _settle(self, event: str, name: str) -> None:
        self._told_faults.pop((event, name), None)

    async def _last_words(self, record: ReplicaRecord) -> str:
        """Return what a host whose engine died has to say; it ends by itself right after."""
        host, engine = record.host_process, record.engine_process
        if host is not None and engine is not None and not is_alive(engine):
            await first_of(wait_until_gone(host), self._clock.sleep(LAST_WORDS_SECONDS_MAX))
        told = self._told(record.name)
        return told.message if told is not None and told.state is HostState.FAILED else ""

    async def _confirm_gone(
        self, record: ReplicaRecord, processes: Sequence[ProcessRecord]
    ) -> None:
        """Kill whatever is left of the replica and return once nothing is."""
        for process in processes:
            kill_group(process)  # it led a session: its children go too, also orphaned ones
        for process in processes:
            await first_of(wait_until_gone(process), self._clock.sleep(FENCE_SECONDS_MAX))
        deadline = self._clock.monotonic() + FENCE_SECONDS_MAX
        while self._clock.monotonic() < deadline:
            left = await self._kill_left(record.name)
            living = [process for process in (*processes, *left) if is_alive(process)]
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

    async def _left(self, names: Collection[str]) -> dict[str, tuple[ProcessRecord, ...]]:
        """Return what lives of these replicas, also in sessions and trees of its own.

        Raises Unavailable while the machine's processes cannot be told.
        """
        root = self._place.replicas_dir
        state_files = {name: state_path(root, name) for name in names}
        try:
            # One that hangs in its driver may hold up whoever reads its memory.
            async with asyncio.timeout(FENCE_SECONDS_MAX):
                return await asyncio.to_thread(left_of, state_files)
        except TimeoutError:
            raise Unavailable(
                "which processes live cannot be told: one of them hangs inside the kernel"
            ) from None

    async def _may_live(self, name: str, *, kill: bool = False) -> bool:
        """Say whether anything lives of the replica; what cannot be told, lives."""
        try:
            return bool(await self._kill_left(name) if kill else (await self._left([name])))
        except Unavailable as error:
            self._complain("replica.processes-not-told", name, str(error))
            return True

    async def _kill_left(self, name: str) -> tuple[ProcessRecord, ...]:
        """Kill what lives of the replica and return what there was."""
        left = (await self._left([name])).get(name, ())
        for process in left:
            signal_process(process, signal.SIGKILL)
        return left

    async def _remove(self, name: str) -> None:
        self._records.drop(name)
        for key in [key for key in self._told_faults if key[1] == name]:
            del self._told_faults[key]
        await asyncio.to_thread(self._remove_files, name)

    def _remove_files(self, name: str) -> None:
        record_path(self._place.replicas_dir, name).unlink(missing_ok=True)
        shutil.rmtree(directory_of(self._place.replicas_dir, name), ignore_errors=True)
        sweep_beside(self._place.prefix_disk_dir)  # of a host that was killed
        living = {path.stem for path in self._place.replicas_dir.glob(f"*{SUFFIX}")}
        prune_logs(self._place.logs_dir, living)


def _processes(record: ReplicaRecord) -> list[ProcessRecord]:
    return [p for p in (record.host_process, record.engine_process) if p is not None]


def _is_fenced(record: ReplicaRecord) -> bool:
    return record.state is ReplicaState.FAILED and not record.pid


def _with_host(record: ReplicaRecord, host: ProcessRecord) -> ReplicaRecord:
    return dataclasses.replace(
        record, pid=host.pid, start_time=host.start_time, boot_id=host.boot_id
    )


def _fault(record: ReplicaRecord, told: host_state.ReplicaRecord | None) -> str:
    """Return why the replica is not alive, empty when it is."""
    ended = told is not None and told.state in (HostState.FAILED, HostState.STOPPED)
    message = told.message if told is not None else ""
    host = record.host_process
    if ended:
        return message or "its host ended"
    if host is None:
        return "it was never started"
    if not is_alive(host):
        return message or f"its host (pid {host.pid}) is gone"
    # A dead engine is its host's to restart or to give up; a host that hangs fails its health.
    return ""


def _pick_ports(host: str, taken: frozenset[int], count: int, numbers: frozenset[int]) -> list[int]:
    """Return free ports; the first, for HTTP, with a number of its own while there is one."""
    picked: list[int] = []
    for tried in range(PORT_TRIES_MAX + count):
        port = free_port(host)
        is_anothers = not picked and port % PORT_NUMBERS in numbers
        if is_anothers and len(numbers) < PORT_NUMBERS and tried < PORT_TRIES_MAX:
            continue
        if port not in taken and port not in picked:
            picked.append(port)
        if len(picked) == count:
            return picked
    raise Exhausted(f"no {count} free ports on {host}; too many connections or replicas")


def _pick_devices(order: ReplicaOrder, live: Sequence[LiveReplica]) -> tuple[int, ...]:
    if not order.pool_devices:
        return ()
    for one in live:
        if not one.known and one.record.pool in ("", order.pool):
            raise Exhausted(
                f"which accelerators of pool {order.pool} are free is not known: the record of"
                f" replica {one.record.name} cannot be read"
            )
    held = {
        device
        for one in live
        # Of any pool: a release before this one began each pool's numbers at 0.
        if one.record.state is not ReplicaState.FAILED
        for device in one.record.devices
    }
    free = [device for device in order.pool_devices if device not in held]
    if len(free) < order.accelerators:
        where = f"pool {order.pool}" + (f" ({', '.join(order.nodes)})" if order.nodes else "")
        raise Exhausted(
            f"{where} has {len(free)} free accelerators, a replica of"
            f" {order.deployment} takes {order.accelerators}"
        )
    return tuple(free[: order.accelerators])
