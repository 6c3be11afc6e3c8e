"""What `skerry up` writes for the fleet's processes, and what of it is the operator's own."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from control_plane.settings import load_settings, policy_of
from skerry.cli.supervisor.layout import DataDirectory, choose_runtimes
from skerry.cli.supervisor.settings_files import write_settings
from tests.unit.skerry.cli.test_pki import a_layout
from workload_plane.settings import read_settings

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_what_the_operator_told_the_scheduler_stays_and_the_rest_is_written_anew(
    tmp_path: Path,
) -> None:
    directory = DataDirectory(tmp_path)
    path = directory.control_plane / "settings.json"
    write_settings(directory, a_layout(), (), NOW)
    first: dict[str, Any] = json.loads(path.read_bytes())
    assert "scheduler" not in first
    path.write_text(json.dumps({**first, "name": "mine", "scheduler": {"moves_max": 3}}))
    write_settings(directory, a_layout(), (), NOW)
    assert json.loads(path.read_bytes()) == {**first, "scheduler": {"moves_max": 3}}
    assert policy_of(load_settings(path)).moves_max == 3


def test_a_plane_on_ray_gets_a_head_of_its_own_and_keeps_what_was_told_of_it(
    tmp_path: Path,
) -> None:
    directory, ports = DataDirectory(tmp_path), itertools.count(20_000)
    layout = choose_runtimes(a_layout(), ("ray",), lambda: next(ports))
    name = layout.planes[0].name
    path = directory.plane(name) / "settings.json"
    write_settings(directory, layout, (), NOW)
    ray = read_settings(path).ray
    assert ray is not None
    assert (ray.starts_head, ray.port) == (True, layout.planes[0].ports.ray)
    told = {"port": ray.port, "nodes": [{"name": n, "pool": "cpu"} for n in ("n1", "n2")]}
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "ray": told}))
    write_settings(directory, layout, (), NOW)
    assert json.loads(path.read_bytes())["ray"] == told
    write_settings(directory, choose_runtimes(layout, ("local",), lambda: 1), (), NOW)
    assert read_settings(path).ray is None


def test_damaged_settings_are_written_anew(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    path = directory.control_plane / "settings.json"
    for damage in ("", "[]", "{"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(damage)
        write_settings(directory, a_layout(), (), NOW)
        load_settings(path)
