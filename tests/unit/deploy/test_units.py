"""The systemd units start what the supervisor starts, and end nothing that is to live on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.deploy.files import DEPLOY, PYTHON, unit, unknown_parts
from workload_plane.main import REACH_SECONDS_MAX
from workload_plane.replica_host.ending import STOP_SECONDS_MAX

SYSTEMD = DEPLOY / "systemd"
AGENT = "skerry-plane-agent@.service"
GATEWAY = "skerry-plane-gateway@.service"
FRONT = "skerry-plane-front@.service"
PICKER = "skerry-plane-picker@.service"
RELAY = "skerry-plane-relay@.service"
REPLICAS = "skerry-plane-replicas@.service"
CONTROL = "skerry-control-plane.service"
TARGET = "skerry-plane@.target"
LONG_RUNNING = (AGENT, GATEWAY, FRONT, PICKER, RELAY, CONTROL)
PLANE = (AGENT, GATEWAY, FRONT, PICKER, REPLICAS)


def one(name: str, section: str, key: str) -> str:
    (value,) = unit(name)[section][key]
    return value


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (CONTROL, ["-m", "control_plane.main"]),
        (AGENT, ["-m", "workload_plane.main"]),
        (FRONT, ["-m", "workload_plane.front.main"]),
        (PICKER, ["-m", "workload_plane.picker.main"]),
        (RELAY, ["-m", "workload_plane.relay.main"]),
        (GATEWAY, ["/opt/skerry/deploy/plane.py", "gateway"]),
    ],
)
def test_each_unit_runs_its_process(name: str, command: list[str]) -> None:
    argv = one(name, "Service", "ExecStart").split()
    assert argv[0] == PYTHON
    assert argv[1:3] == command
    assert argv[3] == "--settings"
    assert unknown_parts(argv) == []


def test_a_stop_or_restart_of_the_agent_leaves_its_replicas_alone() -> None:
    service = unit(AGENT)["Service"]
    # Without it systemd ends the whole control group: every replica on the host.
    assert service["KillMode"] == ["process"]
    # Else the kernel's end of one replica would be taken for the agent's failure.
    assert service["OOMPolicy"] == ["continue"]
    # What goes with the unit would be taken from under the running engines.
    assert not service.keys() & {"PrivateTmp", "RuntimeDirectory", "PrivateDevices", "DeviceAllow"}
    assert "MemoryDenyWriteExecute" not in service


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_each_process_is_started_again_alone_and_for_ever(name: str) -> None:
    assert one(name, "Service", "Restart") == "always"
    assert one(name, "Unit", "StartLimitIntervalSec") == "0"
    assert not unit(name)["Unit"].keys() & {"BindsTo", "Requires"}


def test_replicas_end_after_the_agent_and_before_the_gateway() -> None:
    # The order of the end is the reverse of the order of the start.
    assert REPLICAS.replace("@.", "@%i.") in one(AGENT, "Unit", "After").split()
    after = one(REPLICAS, "Unit", "After").split()
    assert {name.replace("@.", "@%i.") for name in (GATEWAY, FRONT)} <= set(after)
    stop = one(REPLICAS, "Service", "ExecStop").split()
    assert stop[:3] == [PYTHON, "-m", "workload_plane.main"]
    assert stop[-1] == "--stop-replicas"
    assert int(one(REPLICAS, "Service", "TimeoutStopSec")) >= (
        STOP_SECONDS_MAX + 20 + REACH_SECONDS_MAX + 10
    )


def test_the_target_is_the_whole_plane() -> None:
    wanted = set(one(TARGET, "Unit", "Wants").split())
    assert wanted == {name.replace("@.", "@%i.") for name in PLANE}
    for name in PLANE:
        assert one(name, "Unit", "PartOf") == TARGET.replace("@.", "@%i.")


def test_the_relay_joins_the_plane_where_it_is_enabled() -> None:
    assert one(RELAY, "Install", "WantedBy") == TARGET.replace("@.", "@%i.")
    assert one(RELAY, "Unit", "PartOf") == TARGET.replace("@.", "@%i.")
    # Ended after the gateway, whose last streams run through it.
    assert GATEWAY.replace("@.", "@%i.") in one(RELAY, "Unit", "Before").split()


@pytest.mark.parametrize("name", [*PLANE, RELAY, CONTROL])
def test_no_unit_runs_as_root(name: str) -> None:
    users = {
        line.split()[1]
        for line in (SYSTEMD / "skerry.sysusers").read_text(encoding="utf-8").splitlines()
        if line.startswith("u ")
    }
    assert one(name, "Service", "User") in users
    assert one(name, "Service", "UMask") == "0077"


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_long_running_units_are_confined(name: str) -> None:
    service = unit(name)["Service"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] in ([""], ["CAP_NET_BIND_SERVICE"])


def test_every_file_is_known_here() -> None:
    known = {*PLANE, RELAY, CONTROL, TARGET, "skerry.sysusers", "skerry.tmpfiles"}
    assert {path.name for path in SYSTEMD.iterdir()} == known


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    """The program that reads the units says so; paths of the host are stood in for."""
    for name in (*PLANE, RELAY, CONTROL, TARGET):
        text = (SYSTEMD / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(PYTHON, sys.executable))
    instances = [
        str(tmp_path / name.replace("@.", "@here.")) for name in (*PLANE, RELAY, CONTROL, TARGET)
    ]
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *instances],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if "skerry" in line]
    assert ours == []
