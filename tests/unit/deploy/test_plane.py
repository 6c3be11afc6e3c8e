"""deploy/plane.py says what is wrong before it starts anything."""

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


@pytest.mark.parametrize("command", ["gateway", "run", "check"])
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
    assert list(missing) == ["agent", "gateway", "front"]
