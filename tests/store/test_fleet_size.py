"""How many planes there are is known from the first moment of a term, lost ones among them."""

from control_plane.leading.fleet_size import count_known_planes
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.planes import count_planes, record_report
from tests.builders import a_report


async def test_every_plane_that_ever_reported_counts_once(
    database: Database, write: WriteContext
) -> None:
    assert await count_known_planes(database) == 0
    with database.write() as session:
        for name in ("aws", "fra", "gcp", "fra"):
            record_report(session, write, a_report(name))
        assert count_planes(session) == 3
    assert await count_known_planes(database) == 3


async def test_a_database_that_does_not_answer_holds_up_no_term(database: Database) -> None:
    database.close()
    assert await count_known_planes(database) == 0
