"""What every test needs: no event loop left over that nobody closes, and no surprise downloads.

And how the suite is split: what a test is marked with, who shares a worker and who goes first
(docs/contributing/tests.md).
"""

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.purity import is_pure, only_this_process

# Otherwise pytest-asyncio's first look makes a loop that is never closed (ResourceWarning).
asyncio.set_event_loop(None)

# How long drawing takes says how busy the machine is, and failed whole runs on a shared one. With
# SKERRY_PROPERTY_EXAMPLES fewer examples, for who wants an answer in seconds: `make test-unit`.
settings.register_profile(
    "skerry",
    max_examples=int(os.environ.get("SKERRY_PROPERTY_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("skerry")

# Run only when asked for by name (`-m foreign`): they fetch packages of others, or take long.
ON_REQUEST = ("compose", "engines", "faults_full", "foreign", "ray_faults")
TESTS = Path(__file__).parent
# Nothing but tests that start processes.
PROCESSES = (TESTS / "integration", TESTS / "faults")
# Whose integration tests bound how long processes take: nothing runs beside them.
ALONE = (
    *PROCESSES,
    TESTS / "contract",
    TESTS / "unit/benchmarks",
    TESTS / "unit/skerry/client/test_transport.py",
    TESTS / "unit/workload_plane",
)
# The expressions of tools/test.sh that ask nothing of `PROCESSES`; of any other all is looked at.
WITHOUT_PROCESSES = (
    "not integration and not slow and not postgres",
    "(slow or postgres or integration) and not alone",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no folder of which nothing is asked for: all of them take a worker half a minute."""
    asked = str(config.getoption("markexpr"))
    if asked == "alone":
        return True if collection_path.is_dir() and not _holds_alone(collection_path) else None
    return True if asked in WITHOUT_PROCESSES and collection_path in PROCESSES else None


def _holds_alone(path: Path) -> bool:
    return any(path.is_relative_to(folder) or folder.is_relative_to(path) for folder in ALONE)


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is run on request, unless it is asked for; mark, group and sort the rest."""
    asked = str(config.getoption("markexpr"))
    left_out = [
        item
        for item in items
        if any(item.get_closest_marker(name) and name not in asked for name in ON_REQUEST)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in PROCESSES):
            item.add_marker("integration")
        if item.get_closest_marker("integration") and _holds_alone(item.path):
            item.add_marker("alone")
        if group := _worker_of(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_turn)


def _worker_of(item: pytest.Item) -> str:
    """Name what the tests share that must be made once: a server, or a module's event loop."""
    if item.get_closest_marker("postgres"):
        return "postgres"
    scoped = item.get_closest_marker("asyncio")
    if scoped and scoped.kwargs.get("loop_scope") == "module":
        return item.path.stem
    if scoped and scoped.kwargs.get("loop_scope") == "session":
        return item.path.parent.name
    return ""


def _turn(item: pytest.Item) -> int:
    """Sort the long ones to the front, so that no worker ends long after the others."""
    if item.get_closest_marker("slow"):
        return 0
    return 1 if item.get_closest_marker("postgres") else 2


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hold every pure test to its own process."""
    if not is_pure(item):
        return (yield)
    with only_this_process():
        return (yield)
