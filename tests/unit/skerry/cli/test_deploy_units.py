"""The units in deploy/ start what the supervisor starts, with the same flags."""

from pathlib import Path

import pytest

from workload_plane.gateway.envoy import envoy_argv

UNITS = Path(__file__).parents[4] / "deploy" / "systemd"


def command_of(unit: str) -> list[str]:
    """Return the unit's ExecStart."""
    lines = (UNITS / unit).read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("ExecStart=")]
    return line.removeprefix("ExecStart=").split()


def test_the_gateway_unit_has_the_flags_of_the_gateway() -> None:
    program, *flags = envoy_argv(Path("/var/lib/skerry/%i/gateway"))
    unit_program, *unit_flags = command_of("skerry-plane-gateway@.service")
    assert unit_flags == flags
    assert Path(unit_program).parts[-3:] == Path(program).parts[-3:]


@pytest.mark.parametrize(
    ("unit", "module"),
    [
        ("skerry-control-plane.service", "control_plane.main"),
        ("skerry-plane-agent@.service", "workload_plane.main"),
        ("skerry-plane-front@.service", "workload_plane.front.main"),
    ],
)
def test_the_other_units_run_their_module(unit: str, module: str) -> None:
    assert command_of(unit)[1:4] == ["-m", module, "--settings"]
