"""The fleet that the fault tests share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.fleet import FaultFleet, a_fault_fleet


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultFleet]:
    """Yield one fleet for all tests: a start takes half a minute, and each mends what it broke.

    Of the package, not the session: three planes took a third of a core beside all later tests.
    """
    async with a_fault_fleet(tmp_path_factory.mktemp("faults")) as fleet:
        yield fleet
