"""fleet.json: the contract that scripts read."""

import itertools

from skerry.cli.supervisor.fleet_file import RunningReplica, gateways_of, render_fleet
from skerry.cli.supervisor.layout import extend_layout
from skerry.cli.supervisor.restarts import PartKey, Role

LAYOUT = extend_layout(None, 1, "llamacpp", itertools.count(20_000).__next__)
PLANE = "aws-us-east-1"


def test_fleet_file_has_the_fields_of_the_contract() -> None:
    pids = {
        PartKey(role=Role.CONTROL_PLANE): 11,
        PartKey(role=Role.AGENT, plane=PLANE): 12,
        PartKey(role=Role.GATEWAY, plane=PLANE): 13,
        PartKey(role=Role.FRONT, plane=PLANE): None,
    }
    replica = RunningReplica(
        name="demo-1",
        deployment="demo",
        state="ready",
        pid=14,
        engine_pid=15,
        http_port=30_001,
        grpc_port=30_002,
        health_port=30_003,
    )
    assert render_fleet(LAYOUT, pids, {PLANE: [replica]}, 10) == {
        "supervisor_pid": 10,
        "control_planes": [
            {
                "name": "control-plane",
                "grpc": "127.0.0.1:20000",
                "http": "127.0.0.1:20002",
                "dashboard": "127.0.0.1:20003",
                "pid": 11,
            }
        ],
        "planes": [
            {
                "name": PLANE,
                "cloud": "aws",
                "region": "us-east-1",
                "gateway_http": "127.0.0.1:20005",
                "gateway_grpc": "127.0.0.1:20005",
                "admin": "127.0.0.1:20007",
                "agent_pid": 12,
                "gateway_pid": 13,
                "front_pid": None,
                "picker_pid": None,
                "relay_pid": None,
                "replicas": [
                    {
                        "name": "demo-1",
                        "deployment": "demo",
                        "state": "ready",
                        "pid": 14,
                        "engine_pid": 15,
                        "http": "127.0.0.1:30001",
                        "grpc": "127.0.0.1:30002",
                        "health": "127.0.0.1:30003",
                    }
                ],
            }
        ],
    }


def test_clients_find_the_gateways_in_the_file() -> None:
    (gateway,) = gateways_of(render_fleet(LAYOUT, {}, {}, None))
    assert (gateway.name, gateway.http) == (PLANE, "127.0.0.1:20005")
