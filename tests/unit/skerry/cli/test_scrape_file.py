"""prometheus-targets.json names every page of metrics of a fleet, with what is scraped there."""

import itertools
from typing import Any

from skerry.cli.supervisor.fleet_file import RunningReplica, render_fleet
from skerry.cli.supervisor.layout import extend_layout
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.scrape_file import render_targets

LAYOUT = extend_layout(None, 1, "llamacpp", itertools.count(20_000).__next__)
(PLANE,) = LAYOUT.planes
REPLICA = RunningReplica(
    name="chat-1",
    deployment="chat",
    state="ready",
    pid=14,
    engine_pid=15,
    http_port=30_001,
    grpc_port=30_002,
    health_port=30_003,
)


def by_job(pids: dict[PartKey, int | None]) -> dict[str, dict[str, Any]]:
    """Return the targets by their job."""
    fleet = render_fleet(LAYOUT, pids, {PLANE.name: [REPLICA]}, None)
    return {one["labels"]["job"]: one for one in render_targets(LAYOUT, fleet)}


def test_every_process_with_a_page_is_a_target() -> None:
    targets = by_job({PartKey(role=Role.RELAY, plane=PLANE.name): 9})
    ports = {job: one["targets"] for job, one in targets.items()}
    assert ports == {
        "skerry-control-plane": [f"127.0.0.1:{LAYOUT.control_plane.http}"],
        "skerry-agent": [f"127.0.0.1:{PLANE.ports.agent}"],
        "skerry-picker": [f"127.0.0.1:{PLANE.ports.picker}"],
        "skerry-gateway": [f"127.0.0.1:{PLANE.ports.admin}"],
        "skerry-relay": [f"127.0.0.1:{PLANE.ports.relay_http}"],
        "skerry-replica": ["127.0.0.1:30003"],
    }
    assert targets["skerry-gateway"]["labels"]["__metrics_path__"] == "/stats/prometheus"
    assert targets["skerry-replica"]["labels"] == {
        "job": "skerry-replica",
        "plane": PLANE.name,
        "deployment": "chat",
        "replica": "chat-1",
    }


def test_a_relay_that_has_nothing_to_continue_is_no_target_that_is_down() -> None:
    assert "skerry-relay" not in by_job({})
