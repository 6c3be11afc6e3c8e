"""A fleet of several control planes: what is asked for, written, and told of it."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.settings import load_settings
from skerry.cli.supervisor.fleet_file import render_fleet
from skerry.cli.supervisor.layout import (
    CONTROL_PLANES_MAX,
    DataDirectory,
    Layout,
    choose_control_planes,
    extend_layout,
    ports_of,
    read_layout,
    write_layout,
)
from skerry.cli.supervisor.parts import part_directory, part_log
from skerry.cli.supervisor.pki import ensure_pki
from skerry.cli.supervisor.restarts import PartKey, Role, control_plane_key
from skerry.cli.supervisor.settings_files import write_settings
from skerry.cli.up import describe_fleet
from skerry.client.context import load_context
from skerry.plumbing.errors import InvalidInput
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME, read_settings

NOW = datetime(2030, 1, 1, tzinfo=UTC)
URL = "postgresql://skerry@db.example/skerry"


def taking() -> Callable[[], int]:
    ports = itertools.count(20_000)
    return lambda: next(ports)


def a_layout(count: int | None = 2, database: str | None = URL) -> Layout:
    take = taking()
    layout = extend_layout(None, 2, "simulated", take)
    return choose_control_planes(layout, count, database, take, is_new=True)


def test_each_has_a_name_and_ports_of_its_own_that_stay(tmp_path: Path) -> None:
    layout = a_layout(3)
    names = [one.name for one in layout.control_planes]
    assert names == ["control-plane", "control-plane-2", "control-plane-3"]
    assert len(ports_of(layout)) == 3 * 5 + 2 * 9
    write_layout(DataDirectory(tmp_path), layout)
    again = read_layout(DataDirectory(tmp_path))
    assert again == layout
    again = extend_layout(again, 2, "simulated", taking())
    assert choose_control_planes(again, None, None, taking(), is_new=False) == layout
    fewer = choose_control_planes(again, 2, None, taking(), is_new=False)
    assert fewer.standbys == layout.standbys[:1]


@pytest.mark.parametrize(
    ("count", "database", "told"),
    [
        (2, None, "needs --database postgresql://"),
        (2, "sqlite:////tmp/x.db", "--database must be postgresql://"),
        (1, "mysql://somewhere", "--database must be postgresql://"),
        (0, URL, f"must be 1..{CONTROL_PLANES_MAX}, not 0"),
        (CONTROL_PLANES_MAX + 1, URL, f"must be 1..{CONTROL_PLANES_MAX}"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_give(
    count: int, database: str | None, told: str
) -> None:
    with pytest.raises(InvalidInput, match=told.replace("..", r"\.\.")):
        a_layout(count, database)


def test_a_fleet_keeps_the_database_that_it_began_with() -> None:
    layout = a_layout(1, None)
    with pytest.raises(InvalidInput, match="began with another database"):
        choose_control_planes(layout, 2, URL, taking(), is_new=False)
    assert choose_control_planes(a_layout(), 1, URL, taking(), is_new=False).standbys == ()


def test_all_know_all(tmp_path: Path) -> None:
    directory, layout = DataDirectory(tmp_path), a_layout()
    write_settings(directory, layout, (), NOW)
    links = tuple(one.link_address for one in layout.control_planes)
    for plane in layout.planes:
        assert read_settings(directory.plane(plane.name) / "settings.json").control_planes == links
    for one in layout.control_planes:
        path = directory.control_plane_of(one.name) / "settings.json"
        settings = load_settings(path)
        assert (settings.name, settings.database_url) == (one.name, URL)
        assert settings.operator_address == one.operator_address
    context = load_context(directory.config, None, {})
    assert context.endpoints == layout.operator_addresses


def test_each_proves_to_planes_that_it_is_a_control_plane(tmp_path: Path) -> None:
    pki = ensure_pki(DataDirectory(tmp_path), a_layout(), NOW)
    assert set(pki.standbys) == {"control-plane-2"}
    certificates = [pki.control_plane.cert, pki.standbys["control-plane-2"].cert]
    assert len({path.read_bytes() for path in certificates}) == 2
    assert CONTROL_PLANE_SERVER_NAME


def test_their_files_lie_apart(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    first, second = control_plane_key("control-plane"), control_plane_key("control-plane-2")
    assert first == PartKey(role=Role.CONTROL_PLANE)
    assert part_directory(directory, first) == directory.control_plane
    assert part_directory(directory, second) == tmp_path / "control-plane-2"
    assert part_log(directory, second) == tmp_path / "control-plane-2" / "log"


def test_fleet_json_and_the_status_line_have_all_of_them() -> None:
    layout = a_layout()
    fleet = render_fleet(layout, {control_plane_key("control-plane-2"): 12}, {}, 7)
    told = [(one["name"], one["pid"]) for one in fleet["control_planes"]]
    assert told == [("control-plane", None), ("control-plane-2", 12)]
    line = describe_fleet(json.loads(json.dumps(fleet)))
    assert line.startswith("control plane down, control plane-2 up; aws-us-east-1 down")
