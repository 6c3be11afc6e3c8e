"""The cluster's token: made once, and refused where others could read or change it."""

import os
from pathlib import Path

import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import NotFound, Unavailable
from skerry.plumbing.ids import SystemIds
from workload_plane.replicas.ray.environment import LOG_BYTES_MAX, ensure_token, ray_environment
from workload_plane.replicas.ray.settings import RaySettings

IDS = SystemIds(SystemClock())


def _settings(home: Path, address: str = "10.0.0.5:6379") -> RaySettings:
    token = home / "token"
    return RaySettings(pools=(), token_file=token, temp_dir=home, data_dir=home, address=address)


def test_a_head_of_our_own_gets_a_token_that_nobody_else_reads(tmp_path: Path) -> None:
    settings = _settings(tmp_path, address="")
    ensure_token(settings, IDS)
    assert settings.token_file.stat().st_mode & 0o777 == 0o600
    made = settings.token_file.read_text()
    ensure_token(settings, IDS)
    assert settings.token_file.read_text() == made


def test_a_token_that_is_not_there_is_to_be_copied(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="copy the token"):
        ensure_token(_settings(tmp_path), IDS)


# A secret of Kubernetes is mounted 0640 or 0440 with the Pod's fsGroup.
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_token_of_its_owner_and_a_group_that_reads_it_is_taken(tmp_path: Path, mode: int) -> None:
    settings = _settings(tmp_path)
    settings.token_file.write_text("secret")
    settings.token_file.chmod(mode)
    ensure_token(settings, IDS)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602])
def test_a_token_that_anybody_reads_or_a_group_writes_is_refused(tmp_path: Path, mode: int) -> None:
    settings = _settings(tmp_path)
    settings.token_file.write_text("secret")
    settings.token_file.chmod(mode)
    with pytest.raises(Unavailable, match="chmod 600"):
        ensure_token(settings, IDS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_token_of_another_user_is_refused(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    settings.token_file.write_text("secret")
    settings.token_file.chmod(0o600)
    os.chown(settings.token_file, 4711, -1)
    with pytest.raises(Unavailable, match="somebody else's"):
        ensure_token(settings, IDS)


def test_logs_of_rays_own_processes_are_bounded(tmp_path: Path) -> None:
    environment = ray_environment(_settings(tmp_path), {"RAY_AUTH_TOKEN": "x", "HOME": "/h"})
    assert environment["RAY_ROTATION_MAX_BYTES"] == str(LOG_BYTES_MAX)
    assert environment["HOME"] == "/h"
    assert "RAY_AUTH_TOKEN" not in environment
