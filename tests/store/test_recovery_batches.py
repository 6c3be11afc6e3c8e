"""A recovery of more planes than one transaction takes: by batches, gone on with after a death."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from control_plane.recovery import run
from control_plane.store import recovery, tables
from control_plane.store.audit import verify_changes
from control_plane.store.desired import get_desired
from control_plane.store.fencing import WriteContext
from control_plane.store.values import TAKING_IN, AdoptedPlane
from tests.builders import a_deployment
from tests.store.test_recovery import Fleet, another

PLANES, AT_ONCE, BATCHES = 7, 2, 4


class Died(Exception):
    """The control plane's end, wherever it was."""


@pytest.fixture
async def fleet(
    tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    """A settled fleet; `code` runs at some planes only."""
    monkeypatch.setattr(recovery, "PLANES_AT_ONCE", AT_ONCE)
    fleet = Fleet(f"sqlite:///{tmp_path / 'first.db'}", PLANES, migrated_file)
    await fleet.turn()
    await fleet.price()
    await fleet.apply(a_deployment("chat", replicas=PLANES * 2), a_deployment("code", replicas=2))
    await fleet.turns(4)
    fleet.forgive()
    yield fleet
    for database in fleet.databases:
        database.close()


def dying(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """Return a write that dies instead of what would be the next call after so many."""
    left = [calls]

    def call(session: Session, *args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Died
        return function(session, *args)

    return call


async def test_many_planes_are_taken_in_by_batches(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, counts, running = await fleet.specs(), await fleet.counts(), fleet.running()
    batches: list[int] = []

    def adopt(session: Session, write: WriteContext, planes: Sequence[AdoptedPlane]) -> None:
        batches.append(len(planes))
        recovery.adopt_planes(session, write, planes)

    monkeypatch.setattr(run, "adopt_planes", adopt)
    fleet.start(another(tmp_path))
    await fleet.until(fleet.is_ready)
    assert batches == [2, 2, 2, 1]
    assert (await fleet.specs(), await fleet.counts()) == (specs, counts)
    await fleet.turns(3)
    assert (fleet.running(), fleet.stopped()) == (running, [])


@pytest.mark.parametrize("successor", [True, False], ids=["successor", "same-leader"])
@pytest.mark.parametrize("taken_in", range(BATCHES + 1))
async def test_who_dies_between_two_batches_is_followed_by_one_that_goes_on(
    fleet: Fleet,
    tmp_path: Path,
    taken_in: int,
    successor: bool,
) -> None:
    specs, counts, running = await fleet.specs(), await fleet.counts(), fleet.running()
    fleet.start(another(tmp_path))
    epoch = fleet.epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "adopt_planes", dying(recovery.adopt_planes, taken_in))
        patch.setattr(run, "end_recovery", dying(recovery.end_recovery, 0))
        with pytest.raises(Died):
            await fleet.until(fleet.is_ready)
    with fleet.database.read() as session:
        assert recovery.restored_because(session) == TAKING_IN
        told = session.execute(select(tables.desired_states.c.plane)).all()
    assert len(told) == min(PLANES, taken_in * AT_ONCE)
    if successor:
        fleet.lead()
    await fleet.until(fleet.is_ready)
    assert fleet.epoch > epoch, "planes hold what a leader of that epoch told, and we forgot"
    assert (await fleet.specs(), await fleet.counts()) == (specs, counts)
    await fleet.turns(3)
    assert (fleet.running(), fleet.stopped()) == (running, [])
    assert {why for plane in fleet.planes.values() for why in plane.refused} == set()
    with fleet.database.read() as session:
        assert recovery.restored_because(session) == ""
        assert not verify_changes(session).fault


async def test_planes_that_were_taken_in_are_not_written_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.start(another(tmp_path))
    held = fleet.planes["p00"]
    await fleet.until(fleet.is_ready)
    with fleet.database.write() as session:
        before = session.execute(select(tables.changes.c.sequence)).all()
        (row,) = session.execute(
            select(tables.desired_states).where(tables.desired_states.c.plane == held.name)
        ).all()
        stored = get_desired(session, held.name)
        assert stored is not None
        again = AdoptedPlane(
            plane=held.name,
            version=stored.version,
            payload=row.payload,
            digest=row.digest,
            envelopes=tuple(reversed(stored.envelopes or ())),
        )
        recovery.adopt_planes(session, fleet.write(), [again])
        assert session.execute(select(tables.changes.c.sequence)).all() == before
