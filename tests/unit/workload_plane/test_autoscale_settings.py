"""The section `autoscale` and the agent's port, with every fault told at once."""

from typing import Any

import pytest

from skerry.plumbing.errors import InvalidInput
from tests.unit.workload_plane.test_relay_settings import VALUES
from workload_plane.settings import parse_settings


def test_without_the_section_the_loop_turns_every_five_seconds_and_shows_nothing() -> None:
    settings = parse_settings(VALUES)
    assert (settings.autoscale.period_seconds, settings.agent_port) == (5.0, 0)


def test_the_period_and_the_port_are_read() -> None:
    settings = parse_settings(VALUES | {"autoscale": {"period_seconds": 1}, "agent_port": 9400})
    assert (settings.autoscale.period_seconds, settings.agent_port) == (1.0, 9400)
    assert 9400 in settings.ports  # no replica takes it


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"autoscale": {"period_seconds": 0.1}}, "autoscale.period_seconds"),
        ({"autoscale": {"period_seconds": 60}}, "autoscale.period_seconds"),
        ({"autoscale": {"period_seconds": "5"}}, "autoscale.period_seconds"),
        ({"autoscale": {"speed": 1}}, "autoscale.speed"),
        ({"autoscale": 7}, "autoscale"),
        ({"agent_port": 0}, "agent_port"),
    ],
)
def test_what_is_wrong_is_told_by_its_path(more: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_settings(VALUES | more)
    assert path in [violation.path for violation in refused.value.violations]
