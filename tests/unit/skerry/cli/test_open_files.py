"""`skerry up` gives its processes as many open files as the machine allows, and says if few."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.cli.supervisor.open_files import (
    OPEN_FILES_MAX,
    OPEN_FILES_NEEDED,
    hard_limit,
    raise_open_files,
    shortage,
)
from workload_plane.gateway.resources import CONNECTIONS_MAX
from workload_plane.picker import http_server


@pytest.fixture
def few() -> Iterator[int]:
    """Lower the soft limit as a shell does, and yield the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = 1_024 if hard == resource.RLIM_INFINITY else min(1_024, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_is_raised_to_the_hard_one_once(few: int) -> None:
    allowed = raise_open_files()
    assert allowed == min(hard_limit(), OPEN_FILES_MAX)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == allowed
    assert raise_open_files() == allowed


def test_a_limit_below_what_a_full_gateway_or_picker_needs_is_told_with_the_remedy() -> None:
    assert shortage(OPEN_FILES_NEEDED) == ""
    assert "ulimit -Hn" in shortage(OPEN_FILES_NEEDED - 1)
    assert OPEN_FILES_NEEDED > 2 * CONNECTIONS_MAX
    assert OPEN_FILES_NEEDED > http_server.CONNECTIONS_MAX


def test_the_page_has_the_figures() -> None:
    page = Path(__file__).parents[4] / "docs" / "operating" / "running.md"
    text = " ".join(page.read_text().split())
    assert (
        f"less than the {OPEN_FILES_NEEDED:,} that a gateway with its {CONNECTIONS_MAX:,}" in text
    )
    assert f"{OPEN_FILES_MAX:,} at most" in text
