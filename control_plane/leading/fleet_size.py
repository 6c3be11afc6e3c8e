"""How large the fleet is when leadership begins: the first Welcome's terms go by it."""

import asyncio

from control_plane.store.engine import Database
from control_plane.store.planes import count_planes
from skerry.plumbing import logs
from skerry.plumbing.errors import SkerryError

_log = logs.get_logger(__name__)

# Of a term of 3 s. It takes milliseconds, and no plane is to wait for its control plane for more.
COUNT_SECONDS_MAX = 1.0


async def count_known_planes(database: Database) -> int:
    """Return how many planes the database has; 0 where it does not tell in time.

    The terms then are a small fleet's, until planes are judged and those linked are told others.
    """
    try:
        async with asyncio.timeout(COUNT_SECONDS_MAX):
            return await database.run_read(count_planes)
    except (SkerryError, TimeoutError) as error:
        _log.warning("planes.not-counted", error=str(error) or repr(error))
        return 0
