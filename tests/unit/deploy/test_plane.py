"""deploy/plane.py says what is wrong before it starts anything."""

import asyncio
import json
from pathlib import Path

import pytest

from deploy.plane import can_start_gateway, is_agent_running, main, unhealthy_parts
from skerry.plumbing.files import lock_file
from tests.unit.deploy.files import DEPLOY
from workload_plane.settings import read_settings


@pytest.fixture
def settings_path(tmp_path: Path) -> Path:
    values = json.loads((DEPLOY / "examples" / "plane-h100.json").read_bytes())
    # Ports that nothing listens on.
    values["gateway"] |= {"host": "127.0.0.1", "public_port": 1, "peer_port": 2, "admin_port": 3}
    values |= {"data_dir": str(tmp_path / "data"), "front_port": 4}
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("command", ["gateway", "run", "check", "try-gateway"])
def test_bad_settings_are_refused_by_field(
    command: str, settings_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads(settings_path.read_bytes())
    settings_path.write_text(json.dumps({**values, "front_port": 0}))
    assert main([command, "--settings", str(settings_path)]) == 2
    assert "front_port: must be a port" in capsys.readouterr().err


def test_a_gateway_without_files_waits_for_the_agent(
    settings_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not can_start_gateway(tmp_path / "data" / "gateway")
    with pytest.raises(SystemExit) as ended:
        main(["gateway", "--settings", str(settings_path)])
    assert ended.value.code == 1
    assert "the agent writes them" in capsys.readouterr().err


def test_a_trial_without_files_says_what_is_missing(
    settings_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["try-gateway", "--settings", str(settings_path)]) == 1
    assert "nothing was published" in capsys.readouterr().out


def test_a_drain_of_a_gateway_that_is_not_there_is_over(
    settings_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drain-gateway", "--settings", str(settings_path)]) == 0
    assert "nothing to drain" in capsys.readouterr().out


def test_an_agent_runs_while_it_holds_the_planes_lock(settings_path: Path) -> None:
    settings = read_settings(settings_path)
    assert not is_agent_running(settings)
    settings.data_dir.mkdir()
    lock = settings.data_dir / "agent.lock"
    with lock_file(lock):
        assert is_agent_running(settings)
    assert lock.exists()
    assert not is_agent_running(settings)


async def test_every_part_that_does_not_answer_is_named(settings_path: Path) -> None:
    missing = await unhealthy_parts(read_settings(settings_path))
    assert list(missing) == ["agent", "gateway", "front", "picker"]


def test_a_picker_that_is_off_is_not_missed(settings_path: Path) -> None:
    values = json.loads(settings_path.read_text())
    values["gateway"]["picker"] = False
    settings_path.write_text(json.dumps(values))
    assert "picker" not in asyncio.run(unhealthy_parts(read_settings(settings_path)))


@pytest.fixture
def relay_settings_path(settings_path: Path) -> Path:
    """Settings with a relay whose ports are reserved ones, on which nothing listens here."""
    values = json.loads(settings_path.read_text())
    values["relay"] = {"http_port": 5, "grpc_port": 6, "inner_port": 7}
    settings_path.write_text(json.dumps(values))
    return settings_path


async def test_a_relay_is_missed_only_where_there_are_streams_to_continue(
    relay_settings_path: Path,
) -> None:
    settings = read_settings(relay_settings_path)
    assert "relay" not in await unhealthy_parts(settings)
    settings.data_dir.mkdir()
    settings.relay_path.write_text("{}")
    assert "127.0.0.1:5" in (await unhealthy_parts(settings))["relay"]
