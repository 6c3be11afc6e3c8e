"""The layout of a data directory: planes by the catalogue, ports chosen once."""

import itertools
from pathlib import Path

import pytest

from skerry.cli.supervisor.catalogue import PLANES_MAX, offer_planes
from skerry.cli.supervisor.layout import (
    DataDirectory,
    choose_runtimes,
    extend_layout,
    ports_of,
    read_layout,
    write_layout,
)
from skerry.fleet.names import check_name
from skerry.plumbing.errors import InvalidInput, NotFound


def test_the_first_planes_are_those_of_the_story() -> None:
    names = [offer.name for offer in offer_planes(3)]
    assert names == ["aws-us-east-1", "gcp-europe-west4", "onprem-fra"]
    assert len({offer.cloud for offer in offer_planes(3)}) == 3


def test_every_plane_that_may_be_asked_for_has_a_name_and_a_price_of_its_own() -> None:
    offers = offer_planes(PLANES_MAX)
    assert len(offers) == PLANES_MAX == len({offer.name for offer in offers})
    assert all(check_name(offer.name, "plane") for offer in offers)
    assert all(offer.price_per_accelerator_hour > 0 for offer in offers)


def test_ports_are_chosen_once_and_kept() -> None:
    ports = itertools.count(20_000)
    small = extend_layout(None, 2, "llamacpp", lambda: next(ports))
    large = extend_layout(small, 4, "llamacpp", lambda: next(ports))
    assert large.planes[:2] == small.planes
    assert large.control_plane == small.control_plane
    assert len(ports_of(large)) == 5 + 4 * 9


def test_a_layout_reads_back(tmp_path: Path) -> None:
    ports = itertools.count(20_000)
    layout = extend_layout(None, 3, "simulated", lambda: next(ports))
    directory = DataDirectory(tmp_path)
    write_layout(directory, layout)
    assert read_layout(directory) == layout


def test_a_plane_may_run_on_ray_and_keeps_its_port_and_its_runtime(tmp_path: Path) -> None:
    ports = itertools.count(20_000)
    layout = extend_layout(None, 2, "simulated", lambda: next(ports))
    assert {plane.runtime for plane in layout.planes} == {"local"}
    first = layout.planes[0].name
    mixed = choose_runtimes(layout, (f"{first}=ray",), lambda: next(ports))
    assert [plane.runtime for plane in mixed.planes] == ["ray", "local"]
    assert len(ports_of(mixed)) == 5 + 2 * 9 + 1
    directory = DataDirectory(tmp_path)
    write_layout(directory, mixed)
    assert choose_runtimes(read_layout(directory), (), lambda: 1) == mixed
    everywhere = choose_runtimes(mixed, ("ray",), lambda: next(ports))
    assert everywhere.planes[0] == mixed.planes[0]
    assert {plane.runtime for plane in everywhere.planes} == {"ray"}


@pytest.mark.parametrize("told", ["k8s", "nowhere=ray", "=ray"])
def test_an_unknown_runtime_or_plane_is_refused(told: str) -> None:
    layout = extend_layout(None, 1, "simulated", lambda: 1)
    with pytest.raises(InvalidInput, match="--runtime must be"):
        choose_runtimes(layout, (told,), lambda: 1)


@pytest.mark.parametrize("planes", [0, -1, PLANES_MAX + 1])
def test_a_number_of_planes_out_of_range_is_refused(planes: int) -> None:
    with pytest.raises(InvalidInput, match=r"--planes must be 1\.\.32"):
        extend_layout(None, planes, "llamacpp", lambda: 1)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InvalidInput, match="llamacpp or simulated"):
        extend_layout(None, 1, "vllm", lambda: 1)


def test_a_directory_without_a_fleet_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="skerry up --data-dir"):
        read_layout(DataDirectory(tmp_path))


@pytest.mark.parametrize("text", ["{}", "[", '{"engine": "x", "control_plane": {}, "planes": []}'])
def test_a_damaged_layout_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(InvalidInput, match="delete it to start anew"):
        read_layout(DataDirectory(tmp_path))


def test_an_unknown_part_of_the_fleet_is_answered_with_those_there_are() -> None:
    layout = extend_layout(None, 1, "llamacpp", itertools.count(20_000).__next__)
    with pytest.raises(NotFound, match="control-plane, aws-us-east-1"):
        layout.plane("mars")
