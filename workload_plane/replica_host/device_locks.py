"""A lock for each accelerator of this host: one engine has it, of whatever plane or pool.

A replica host takes them before its engine starts, and the engine's processes inherit them: the
kernel frees a device once the last of them is gone, also when the host was killed before.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from skerry.plumbing.errors import Conflict, Denied, Exhausted, InvalidInput
from workload_plane.replica_host.marks import left_on_devices

# Far more than any machine has: a wrong number must not fill the directory.
DEVICES_MAX = 4_096
# Planes may run as different users: each may lock, none may remove another's file. Below what is
# not everybody's, like /run, it is its owner's alone: a stranger's lock would keep engines away.
_SHARED_MODE = 0o1777
_OWN_MODE = 0o755
_FILE_MODE = 0o666
_NOTE_BYTES_MAX = 32
_OPEN_TRIES_MAX = 10


def take_devices(directory: Path, devices: Sequence[int]) -> tuple[int, ...]:
    """Lock the devices and return the descriptors that hold them, to be inherited by the engine.

    Raises Conflict naming the process that has one, InvalidInput for a number that is none. Also a
    process that has closed the locks it inherited has what it was given.
    """
    if not devices:
        return ()
    for device in devices:
        if not 0 <= device < DEVICES_MAX:
            raise InvalidInput(
                f"{device} is no accelerator's number; they are 0..{DEVICES_MAX - 1}"
            )
    held: list[int] = []
    try:
        held.append(_open_directory(directory))
        for device in sorted(set(devices)):
            held.append(_lock(directory, device))
        _check_left_behind(directory, devices)
    except PermissionError as error:
        _close(held)
        raise Denied(
            f"accelerators cannot be locked in {directory}: {error}; give this user the right to"
            " write there, or all planes of this host another device_locks_dir"
        ) from None
    except BaseException:
        _close(held)
        raise
    return tuple(held)


def _close(held: Sequence[int]) -> None:
    for descriptor in held:
        os.close(descriptor)


def _check_left_behind(directory: Path, devices: Sequence[int]) -> None:
    left = left_on_devices(directory, devices)
    for process, device in sorted(left.items(), key=lambda one: one[0].pid):
        raise Conflict(
            f"accelerator {device} of this host is held by process {process.pid} ({process.name}),"
            " which an engine left behind: end that",
            hints={"pid": str(process.pid)},
        )


def _open_directory(directory: Path) -> int:
    is_made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    if is_made:
        is_everybodys = directory.parent.stat().st_mode & stat.S_ISVTX
        directory.chmod(_SHARED_MODE if is_everybodys else _OWN_MODE)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # Whoever tidies old files away (systemd-tmpfiles) leaves a locked directory alone.
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


def _lock(directory: Path, device: int) -> int:
    path = directory / f"device-{device}.lock"
    for _ in range(_OPEN_TRIES_MAX):
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, _NOTE_BYTES_MAX, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise Conflict(
                f"accelerator {device} of this host is held by replica host {holder or 'unknown'}"
                f" (a pid), or by an engine that it left behind: {path} is locked; end that, or"
                " give the planes of this host different accelerators",
                hints={"pid": holder},
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed between our opening and our locking: there is a new one
    raise Exhausted(f"{path} is removed again and again; leave it alone")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_OPEN_TRIES_MAX):
        # Two steps: in a shared directory the kernel refuses O_CREAT on another user's file.
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, _FILE_MODE)
            os.fchmod(descriptor, _FILE_MODE)
            return descriptor
    raise Exhausted(f"{path} comes and goes; leave it alone")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
