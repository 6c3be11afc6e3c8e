"""The two files between agent and picker, written and read."""

import contextlib
import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.fleet.observation import UNKNOWN
from skerry.fleet.routing import Routing, RoutingPolicy
from skerry.plumbing.errors import Corrupt
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.gateway.gateway_builders import a_model, a_replica, a_topology
from workload_plane.converge.demand import Demand, DeploymentDemand
from workload_plane.front.endpoints import EndpointsWatch
from workload_plane.gateway.picker_file import build_picker_file
from workload_plane.gateway.routing import ENDPOINTS_FORMAT
from workload_plane.picker.demand_file import parse_demand, render_demand
from workload_plane.picker.demand_watch import SILENT_SECONDS_MAX, DemandWatch
from workload_plane.picker.facts import DeploymentTold, PeerTold, ReplicaTold
from workload_plane.picker.plane_file import PlaneFile, PlaneTold, parse_plane

MODEL = replace(
    a_model("chat", a_replica("one"), a_replica("two", port=9100, draining=True), peers=("c",)),
    routing=Routing(policy=RoutingPolicy.SESSION, queue_requests_max=9, queue_seconds_max=3.0),
    priority=2,
    concurrent_requests=7,
)
TOLD = PlaneTold(
    plane="a",
    deployments=(
        DeploymentTold(
            "chat",
            RoutingPolicy.SESSION,
            2,
            (
                ReplicaTold("one", "127.0.0.1:9000", "127.0.0.1:9001"),
                ReplicaTold("two", "127.0.0.1:9100", "127.0.0.1:9101", draining=True),
            ),
            (PeerTold("c", "10.0.0.3:9443", 2),),
            7,
            9,
            3.0,
        ),
    ),
)


def the_file() -> bytes:
    return json.dumps(build_picker_file(a_topology(MODEL))).encode()


def test_the_picker_reads_what_the_agent_writes() -> None:
    assert parse_plane(the_file()) == TOLD
    assert TOLD.peers == {"c": "10.0.0.3:9443"}


def test_nothing_is_held_past_the_bound_of_its_route() -> None:
    patient = replace(MODEL, routing=Routing(queue_seconds_max=600.0))
    (one,) = parse_plane(json.dumps(build_picker_file(a_topology(patient))).encode()).deployments
    assert one.hold_seconds == 3 * 2 - 2  # a silent stream is cut after 3 times 2 s


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        the_file()[:-20],
        the_file().replace(b'"session"', b'"chance"'),
        the_file().replace(b'"priority": ', b'"priority": 1e999, "was": '),
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_changes_nothing(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picker.json"
    path.write_bytes(the_file())
    file = PlaneFile(path, FakeClock())
    file.look()
    with pytest.raises(Corrupt):
        parse_plane(data)
    path.write_bytes(data)
    file.look()
    assert file.current == TOLD
    path.unlink()
    file.look()
    assert file.current == TOLD


@contextlib.contextmanager
def no_open_files_left() -> Iterator[None]:
    """Make every open fail as it does in a process that has too many; a stat still answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_could_not_be_read_at_one_look_is_read_at_the_next(tmp_path: Path) -> None:
    path, clock = tmp_path / "picker.json", FakeClock()
    path.write_bytes(the_file())
    file = PlaneFile(path, clock)
    demand_path, demand = tmp_path / "demand.json", {"chat": DeploymentDemand(waiting=1)}
    demand_path.write_bytes(render_demand(demand))
    watch = DemandWatch(demand_path, clock, picks=True)
    endpoints_path = tmp_path / "endpoints.json"
    values = {"format": ENDPOINTS_FORMAT, "plane": "told", "models": []}
    endpoints = EndpointsWatch(endpoints_path, "a", clock)
    endpoints_path.write_text(json.dumps(values))
    with no_open_files_left():
        file.look()
        watch.look()
        endpoints.look()
    assert (file.current, watch.current) == (PlaneTold(), UNKNOWN)
    file.look()
    watch.look()
    endpoints.look()
    assert (file.current, watch.current) == (TOLD, demand)
    assert endpoints.current.plane == "told"


def test_demand_is_read_back_and_unknown_once_nobody_writes_it(tmp_path: Path) -> None:
    demand = {"chat": DeploymentDemand(waiting=3, idle_seconds=1.5)}
    assert parse_demand(render_demand(demand)) == demand
    path, clock = tmp_path / "demand.json", FakeClock()
    watch = DemandWatch(path, clock, picks=True)

    def seen() -> Demand:
        watch.look()
        return watch.current

    assert seen() is UNKNOWN
    path.write_bytes(render_demand(demand))
    assert seen() == demand
    clock.advance(SILENT_SECONDS_MAX + 1)
    assert seen() is UNKNOWN
    assert DemandWatch(path, clock, picks=False).current == {}


def test_a_demand_file_that_comes_back_unchanged_is_believed_again(tmp_path: Path) -> None:
    path, away = tmp_path / "demand.json", tmp_path / "away.json"
    demand = {"chat": DeploymentDemand(waiting=1)}
    path.write_bytes(render_demand(demand))
    watch = DemandWatch(path, FakeClock(), picks=True)

    def seen() -> Demand:
        watch.look()
        return watch.current

    assert seen() == demand
    path.rename(away)
    assert seen() is UNKNOWN
    away.rename(path)
    assert seen() == demand


@pytest.mark.parametrize(
    "data",
    [
        b'{"format": 2}',
        b'{"format": 1, "deployments": {"chat": {"waiting": 1e999, "idle_seconds": 1}}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_demand_is_unknown(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "demand.json"
    path.write_bytes(data)
    watch = DemandWatch(path, FakeClock(), picks=True)
    watch.look()
    assert watch.current is UNKNOWN
