"""Processes that outlive or die with their starter, found again by (pid, start time).

The supervisor of a whole site starts its parts here; an agent starts and adopts engines here. A
pid alone is never trusted: the kernel reuses it, so each signal goes to a checked pidfd.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput, NotFound, Unavailable
from skerry.plumbing.tasks import first_of

# A process that SIGKILL has not ended by then hangs in the kernel (a lost NFS, a stuck driver).
KILL_SECONDS_MAX = 10.0
# Exit codes of children that a look at them reaped, for whoever asks later; the oldest go first.
EXIT_CODES_MAX = 256
_exit_codes: dict[tuple[int, float], int] = {}
_NAMESPACE = "/pid-"  # between the boot and the namespace's number
# Each round kills what the round before forked meanwhile; more rounds are a fork bomb.
_KILL_ROUNDS_MAX = 20
_PR_SET_CHILD_SUBREAPER = 36
_REAPED_MAX = 1_000  # of one look; the next one goes on
# Fields of /proc/PID/stat counted from the one after the command's closing parenthesis.
_STAT_STATE, _STAT_PARENT, _STAT_SESSION, _STAT_FLAGS, _STAT_START = 0, 1, 3, 6, 19
_EXITING = 0x4  # PF_EXITING
# Runs as the child: asks for SIGKILL at the parent's death, makes sure that the parent was not
# dead already, becomes the program. preexec_fn would run Python between fork and exec beside
# gRPC's threads, which may deadlock.
_DIE_WITH_PARENT = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,9,0,0,0);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);os.execvp(sys.argv[2],sys.argv[2:])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One process for ever: `start_time` is in clock ticks since the boot named by `boot_id`.

    That names the pid namespace, too: containers of one machine share its boot, not its pids.
    """

    pid: int
    start_time: float
    name: str
    boot_id: str

    def to_json(self) -> dict[str, object]:
        """Return the record as plain values for a state file."""
        return {
            "pid": self.pid,
            "start_time": self.start_time,
            "name": self.name,
            "boot_id": self.boot_id,
        }

    @staticmethod
    def from_json(values: Mapping[str, object]) -> "ProcessRecord":
        """Return the record that `to_json` wrote; raises InvalidInput for anything else."""
        pid, start, name, boot = (
            values.get(key) for key in ("pid", "start_time", "name", "boot_id")
        )
        if (
            isinstance(pid, bool)
            or not isinstance(pid, int)
            or not isinstance(start, int | float)
            or not isinstance(name, str)
            or not isinstance(boot, str)
            or pid <= 1
        ):
            raise InvalidInput(f"not a process record: {dict(values)!r}")
        return ProcessRecord(pid=pid, start_time=float(start), name=name, boot_id=boot)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdout_path: Path,
    die_with_parent: bool = False,
) -> ProcessRecord:
    """Start a program in its own session, output appended to a file, and return its record.

    `env` is the whole environment (None: ours). With `die_with_parent` the kernel kills it when
    the calling THREAD ends, so call it from the main thread then. Raises NotFound when there is no
    such program.
    """
    path = (os.environ if env is None else env).get("PATH")
    program = shutil.which(argv[0], path=path)
    if program is None:
        raise NotFound(f"no program {argv[0]!r} on PATH; install it or give its full path")
    command = [program, *argv[1:]]
    if die_with_parent:
        command = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *command]
    with open(stdout_path, "ab") as output:
        child = subprocess.Popen(
            command,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            close_fds=True,
            start_new_session=True,
        )
    record = record_of(child.pid, name=Path(argv[0]).name)
    # Children are reaped by pid in here; Popen must neither warn about nor reap one it forgot.
    child.returncode = 0
    return record


def record_of(pid: int, name: str = "") -> ProcessRecord:
    """Return the record of a process that exists now; raises NotFound when there is none."""
    stat = _read_stat(pid)
    if stat is None:
        raise NotFound(f"there is no process {pid}")
    command, fields = stat
    start = float(fields[_STAT_START])
    return ProcessRecord(pid=pid, start_time=start, name=name or command, boot_id=_boot_id())


def is_alive(record: ProcessRecord) -> bool:
    """Return whether that very process still runs.

    Reaps it when it is a dead child of ours; `wait_until_gone` still has its exit code.
    """
    stat = _read_stat(record.pid)
    if stat is None or not _is_same(record, stat[1]):
        return False
    if stat[1][_STAT_STATE] in "ZX":
        _reap(record)
        return False
    return True


def is_ending(record: ProcessRecord) -> bool:
    """Return whether that very process was killed, or ends, and the kernel has not let go of it.

    SIGKILL waits for a disk that a process waits for, and for a core to die on: until then it looks
    alive and does nothing any more. Also true of one that is gone.
    """
    stat = _read_stat(record.pid)
    if stat is None or not _is_same(record, stat[1]) or stat[1][_STAT_STATE] in "ZX":
        return True
    if int(stat[1][_STAT_FLAGS]) & _EXITING:
        return True
    try:
        status = Path(f"/proc/{record.pid}/status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return is_kill_pending(status)


def is_kill_pending(status: str) -> bool:
    """Return whether the text of /proc/PID/status says that SIGKILL waits to be taken."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    pending = int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16)
    return bool(pending & 1 << (signal.SIGKILL - 1))


def signal_process(record: ProcessRecord, number: signal.Signals) -> bool:
    """Send the signal to that very process; return False when there is none to receive it."""
    descriptor = _open_pidfd(record)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


async def wait_until_gone(record: ProcessRecord) -> int | None:
    """Wait for the process to end; return its exit code if it was a child of ours.

    The code is negative after a signal, and None when somebody else reaped it first.
    """
    descriptor = _open_pidfd(record)
    if descriptor is None:
        return _exit_codes.get(_key(record))
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return _reap(record)


async def terminate(record: ProcessRecord, clock: Clock, grace_seconds: float) -> None:
    """End the process: SIGTERM, after the grace SIGKILL; return once it is gone.

    Raises Unavailable when the kernel does not let go of it.
    """
    if not signal_process(record, signal.SIGTERM) or not is_alive(record):
        return
    await first_of(wait_until_gone(record), clock.sleep(grace_seconds))
    if not is_alive(record):
        return
    signal_process(record, signal.SIGKILL)
    await first_of(wait_until_gone(record), clock.sleep(KILL_SECONDS_MAX))
    if is_alive(record):
        raise Unavailable(
            f"process {record.pid} ({record.name}) does not die; it hangs inside the kernel"
        )


def kill_group(record: ProcessRecord, number: signal.Signals = signal.SIGKILL) -> int:
    """Signal every process of the session that the record leads; return how many were hit.

    SIGKILL is repeated until nothing new appears. Members are found also when the leader is
    dead: the kernel keeps its pid from reuse while they live. A child with its own session is
    no member.
    """
    hit: set[tuple[int, float]] = set()
    for _ in range(_KILL_ROUNDS_MAX):
        fresh = [m for m in session_members(record) if (m.pid, m.start_time) not in hit]
        for member in fresh:
            signal_process(member, number)
            hit.add((member.pid, member.start_time))
        if not fresh or number != signal.SIGKILL:
            break
    return len(hit)


def children(record: ProcessRecord) -> tuple[ProcessRecord, ...]:
    """Return the living descendants of the process, parents before their children."""
    if not is_alive(record):
        return ()
    living = _living()
    found: list[ProcessRecord] = []
    parents = [record.pid]
    while parents:
        nearest = [pid for pid, (_, fields) in living.items() if int(fields[1]) in parents]
        for pid in nearest:
            command, fields = living[pid]
            found.append(_record(pid, command, fields))
        parents = nearest
    return tuple(found)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; raises OSError.

    From then on `children` of this process are all that was ever started from here and lives.
    Call `reap_orphans` now and then: nobody else does.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def reap_orphans(known: Collection[int]) -> int:
    """Reap dead children that nobody waits for, which are all but the known pids; count them."""
    for reaped in range(_REAPED_MAX):
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return reaped
        # One that somebody waits for may hide others, until it is fetched.
        if dead is None or dead.si_pid in known:
            return reaped
        os.waitpid(dead.si_pid, os.WNOHANG)
    return _REAPED_MAX


def session_members(record: ProcessRecord) -> list[ProcessRecord]:
    """Return the living processes of the session that the record leads or led."""
    leader = _read_stat(record.pid)
    if not _is_here(record) or (leader and not _is_same(record, leader[1])):
        return []  # the pid is somebody else's by now: so would be the session of that number
    return [
        _record(pid, command, fields)
        for pid, (command, fields) in _living().items()
        if int(fields[_STAT_SESSION]) == record.pid
    ]


def _record(pid: int, command: str, fields: list[str]) -> ProcessRecord:
    start = float(fields[_STAT_START])
    return ProcessRecord(pid=pid, start_time=start, name=command, boot_id=_boot_id())


def _living() -> dict[int, tuple[str, list[str]]]:
    living = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        stat = _read_stat(int(entry))
        if stat is not None and stat[1][_STAT_STATE] not in "ZX":
            living[int(entry)] = stat
    return living


def _read_stat(pid: int) -> tuple[str, list[str]] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not text:  # it ended between our opening and our reading
        return None
    # The command may itself hold spaces and parentheses; the last one closes it.
    begin, end = text.index("("), text.rindex(")")
    return text[begin + 1 : end], text[end + 2 :].split()


def _is_same(record: ProcessRecord, fields: list[str]) -> bool:
    return record.start_time == float(fields[_STAT_START]) and _is_here(record)


def _is_here(record: ProcessRecord) -> bool:
    """Say whether the record is of this boot and of our pid namespace.

    A release before this one wrote down the boot alone; what it started is still found.
    """
    here = _boot_id()
    return record.boot_id in (here, here.partition(_NAMESPACE)[0])


def _boot_id() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        return f"{boot}{_NAMESPACE}{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # a kernel without namespaces has one for all
        return boot


def _open_pidfd(record: ProcessRecord) -> int | None:
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    # Opened first, checked second: the descriptor cannot move to another process any more. A
    # zombie passes: its exit code is still to be fetched by whoever waits for it.
    stat = _read_stat(record.pid)
    if stat is not None and _is_same(record, stat[1]):
        return descriptor
    os.close(descriptor)
    return None


def _key(record: ProcessRecord) -> tuple[int, float]:
    return record.pid, record.start_time


def _reap(record: ProcessRecord) -> int | None:
    try:
        reaped, status = os.waitpid(record.pid, os.WNOHANG)
    except ChildProcessError:
        return _exit_codes.get(_key(record))
    if reaped != record.pid:
        return None
    while len(_exit_codes) >= EXIT_CODES_MAX:
        del _exit_codes[next(iter(_exit_codes))]
    return _exit_codes.setdefault(_key(record), os.waitstatus_to_exitcode(status))
