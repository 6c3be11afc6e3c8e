"""One accelerator, one engine: across planes, for as long as any process of the engine lives."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.plumbing.errors import Conflict, Denied, InvalidInput
from workload_plane.replica_host.device_locks import DEVICES_MAX, take_devices


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_device_that_is_held_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    held = take_devices(tmp_path / "devices", (0, 1))
    with pytest.raises(Conflict, match=f"accelerator 1 .* {os.getpid()}"):
        take_devices(tmp_path / "devices", (2, 1))
    others = take_devices(tmp_path / "devices", (2, 3))  # what was taken in vain is free again
    _close(held)
    again = take_devices(tmp_path / "devices", (0, 1))
    _close(others + again)


@pytest.mark.integration
def test_a_device_is_held_until_the_last_process_that_inherited_it_is_gone(tmp_path: Path) -> None:
    held = take_devices(tmp_path, (7,))
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=held) as engine:
        _close(held)  # as when its host is killed
        with pytest.raises(Conflict):
            take_devices(tmp_path, (7,))
        engine.kill()
        engine.wait()
    _close(take_devices(tmp_path, (7,)))


def test_without_accelerators_nothing_is_touched(tmp_path: Path) -> None:
    assert take_devices(tmp_path / "devices", ()) == ()
    assert not (tmp_path / "devices").exists()


def test_users_share_the_locks_and_cannot_remove_each_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    _close(take_devices(tmp_path / "devices", (0,)))
    assert stat.S_IMODE((tmp_path / "devices").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "devices" / "device-0.lock").stat().st_mode) == 0o666


@pytest.mark.parametrize("device", [-1, DEVICES_MAX])
def test_a_number_that_no_machine_has_makes_no_file(tmp_path: Path, device: int) -> None:
    with pytest.raises(InvalidInput, match="no accelerator's number"):
        take_devices(tmp_path, (device,))
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_shared_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "device-0.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"):
        take_devices(tmp_path, (0,))
    assert (tmp_path / "victim").read_text() == "kept"


def test_below_a_directory_that_is_not_everybodys_the_locks_are_their_owners(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    _close(take_devices(tmp_path / "skerry" / "devices", (0,)))
    assert stat.S_IMODE((tmp_path / "skerry" / "devices").stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_lock_is_told_what_to_do(tmp_path: Path) -> None:
    _close(take_devices(tmp_path / "devices", (0,)))
    child = os.fork()
    if child == 0:
        os.seteuid(65534)
        try:
            take_devices(tmp_path / "devices", (1,))
        except Denied as error:
            os._exit(0 if "device_locks_dir" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
