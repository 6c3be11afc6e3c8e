"""The fleets that the fault tests share."""

from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from skerry.cli.supervisor.layout import DataDirectory
from tests.faults.fleet import FaultFleet, a_fault_fleet
from tests.faults.network import a_network, small_disk, why_not
from tests.faults.network_fleet import SMALL_DISK_PLANE, NetworkFleet, a_network_fleet

# What a control plane and a plane of simulated engines write in minutes is a few MiB.
DISK_MEBIBYTES = 48


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultFleet]:
    """Yield one fleet for all tests: a start takes half a minute, and each mends what it broke.

    Of the package, not the session: three planes took a third of a core beside all later tests.
    """
    async with a_fault_fleet(tmp_path_factory.mktemp("faults")) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def networked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NetworkFleet]:
    """Yield a fleet of hosts on a network for the tests of a module: each mends what it broke.

    The control plane and one of the planes have a small disk of their own.
    """
    if reason := why_not():
        pytest.skip(f"NETWORKS AND FULL DISKS ARE NOT TESTED HERE: {reason}")
    directory = DataDirectory(tmp_path_factory.mktemp("networked"))
    folders = (directory.control_plane, directory.plane(SMALL_DISK_PLANE))
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(small_disk(folder, DISK_MEBIBYTES))
        network = stack.enter_context(a_network())
        async with a_network_fleet(directory.root, network) as fleet:
            yield fleet
