"""A plane that starts again what was removed long ago ends it; what nobody knows of stays.

The fleet is that of `test_recovery`: the product's own control plane, planes with its own rules.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from alembic import command
from sqlalchemy import delete

from control_plane.store import deployments, tables
from control_plane.store.backup import Restoring, restore_backup, write_backup
from control_plane.store.engine import Database, open_database
from control_plane.store.fencing import WriteContext
from control_plane.store.leadership import take_leadership
from control_plane.store.removals import REMOVALS_KEPT_MAX, list_removals
from control_plane.store.requests import Asked
from control_plane.store.schema import alembic_config, upgrade
from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.desired import FEATURES, TELLS_HELD
from tests.builders import T0, a_deployment, a_replica
from tests.store.test_recovery import Fleet, Plane, another, fleet
from workload_plane.desired_state.accept import Held
from workload_plane.desired_state.format import parse

__all__ = ["fleet"]  # the fixture


async def remove(fleet: Fleet, name: str) -> None:
    """Have a deployment go everywhere, as an operator does."""
    await fleet.database.run(deployments.mark_deleting, fleet.write(), name, "", "")
    await fleet.turns(6)
    assert name not in await fleet.specs()
    fleet.forgive()


def go_back(plane: Plane, payload: bytes) -> None:
    """Lose the newest copy on the disk: the one before it is in force again, and runs."""
    state = parse(payload).state
    plane.payload = payload
    plane.held = Held(plane=plane.name, state=state, seen=state.version)
    plane._converge()


def a_holder(fleet: Fleet) -> Plane:
    """A plane that runs `code`."""
    return next(plane for plane in fleet.planes.values() if runs(plane, "code"))


def runs(plane: Plane, name: str) -> bool:
    return any(one.deployment == name for one in plane.running.values())


def told(plane: Plane) -> dict[str, bool]:
    """What it holds word of, and whether that is to go."""
    assert plane.held.state is not None
    return {one.deployment.name: one.tombstone for one in plane.held.state.assignments}


async def test_a_plane_whose_newest_state_is_torn_ends_what_was_removed_and_obeys_again(
    fleet: Fleet,
) -> None:
    plane = a_holder(fleet)
    before = plane.payload
    await remove(fleet, "code")
    go_back(plane, before)
    assert runs(plane, "code")
    await fleet.apply(a_deployment("chat", replicas=7))
    await fleet.turns(4)
    assert not runs(plane, "code")
    assert len(fleet.running()) == 7
    assert told(plane) == {"chat": False}, "no word of it is left"
    versions = fleet.versions()
    await fleet.turns(3)
    assert fleet.versions() == versions


async def test_while_the_plane_is_not_heard_it_goes_on_being_told(fleet: Fleet) -> None:
    plane = a_holder(fleet)
    before = plane.payload
    await remove(fleet, "code")
    go_back(plane, before)
    fleet._speak(plane)
    fleet.away = {plane.name}  # it is told, and the word is lost
    await fleet.turns(2)
    fleet.lead()  # and of the next leader it is not heard at all
    await fleet.turns(2)
    fleet.away = set()
    await fleet.turns(4)
    assert not runs(plane, "code")
    assert told(plane) == {"chat": False}


async def test_a_name_that_is_in_use_again_is_nothing_removed(fleet: Fleet) -> None:
    plane = a_holder(fleet)
    before = plane.payload
    await remove(fleet, "code")
    await fleet.apply(a_deployment("code", replicas=3))
    await fleet.turns(4)
    fleet.forgive()
    go_back(plane, before)
    fleet.lead()
    for _ in range(8):
        await fleet.turn()
        assert told(plane)["code"] is False
    assert {one.revision for one in plane.running.values() if one.deployment == "code"} == {2}


async def test_a_name_that_is_used_again_elsewhere_leaves_no_plane_stuck(fleet: Fleet) -> None:
    plane = a_holder(fleet)
    before = plane.payload
    await remove(fleet, "code")
    other = next(name for name in sorted(fleet.planes) if name != plane.name)
    policy = PlacementPolicy(clouds=(other,))
    await fleet.apply(
        a_deployment("chat", replicas=2), a_deployment("code", replicas=1, policy=policy)
    )
    await fleet.turns(5)
    assert runs(fleet.planes[other], "code")
    go_back(plane, before)
    fleet.lead()
    assert runs(plane, "code")
    await fleet.turns(6)
    assert not runs(plane, "code")
    assert plane.version == fleet.pushed[plane.name]
    assert runs(fleet.planes[other], "code")


async def test_its_served_name_may_be_anothers_by_now_and_stays_that_ones(fleet: Fleet) -> None:
    plane = a_holder(fleet)
    before = plane.payload
    await remove(fleet, "code")
    newer = a_deployment("novel", replicas=3)
    model = replace(newer.revision.base_model, served_name="code")
    await fleet.apply(replace(newer, revision=replace(newer.revision, base_model=model)))
    await fleet.turns(3)
    go_back(plane, before)
    fleet._speak(plane)
    await fleet.loop.turn()
    assert plane.held.state is not None
    served = [
        one.deployment.revision.base_model.served_name for one in plane.held.state.assignments
    ]
    assert told(plane)["code"] is True
    assert served.count("code") == 1


async def test_a_revision_newer_than_the_removed_one_is_of_a_life_that_was_forgotten(
    fleet: Fleet, tmp_path: Path
) -> None:
    await remove(fleet, "code")
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    # Created again after the backup; and the planes are not ahead of what the backup told them.
    stray = a_replica("code", "p01--cpu", name="code-again", revision=2)
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.start(another(tmp_path))
    fleet.planes["p01"].running[stray.name] = stray
    await fleet.turns(3)
    asked = Asked(request_id="r", kind="approve recovery", body="")
    await fleet.recovery.approve(fleet.write(), asked, "")
    await fleet.until(fleet.is_ready)
    await fleet.apply(a_deployment("chat", replicas=7))
    await fleet.turns(5)
    assert stray.name in fleet.running()
    assert [one.deployment for one in fleet.recovery.status().quarantined] == ["code"]


async def test_a_restored_backup_knows_what_was_removed(fleet: Fleet, tmp_path: Path) -> None:
    plane = a_holder(fleet)
    before = plane.payload
    await remove(fleet, "code")
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    go_back(plane, before)
    fleet.start(another(tmp_path))
    await fleet.until(fleet.is_ready)
    assert fleet.recovery.status().quarantined == ()
    await fleet.turns(5)
    assert not runs(plane, "code")


async def test_a_database_that_never_knew_of_it_ends_nothing(fleet: Fleet) -> None:
    plane = a_holder(fleet)
    before = plane.payload
    await remove(fleet, "code")
    with fleet.database.write() as session:
        session.execute(delete(tables.removals))
    fleet.lead()
    go_back(plane, before)
    await fleet.turns(5)
    assert runs(plane, "code")
    assert [one.deployment for one in fleet.recovery.status().quarantined] == ["code"]


async def test_what_a_recovery_could_not_explain_is_never_taken_for_removed(
    fleet: Fleet, tmp_path: Path
) -> None:
    plane = a_holder(fleet)
    for every in fleet.planes.values():  # of a release that cannot tell what it holds
        every.features = tuple(name for name in FEATURES if name != TELLS_HELD)
    kept = {one.name for one in plane.running.values() if one.deployment == "code"}
    # Without the database of before another `code` lived and went, while this plane was away.
    fleet.away = {plane.name}
    fleet.start(another(tmp_path))
    with fleet.database.write() as session:
        one = {"name": "code", "deployment": a_deployment("code"), "last_revision": 9}
        session.execute(tables.removals.insert().values(**one, removed_at=T0))
    await fleet.turns(3)
    fleet.away = set()
    await fleet.turns(2)
    status = fleet.recovery.status()
    assert ("code", plane.name) in {(one.deployment, one.plane) for one in status.quarantined}
    asked = Asked(request_id="r", kind="approve recovery", body="")
    await fleet.recovery.approve(fleet.write(), asked, "")
    await fleet.until(fleet.is_ready)
    await fleet.turns(3)
    assert plane.version.generation <= fleet.pushed[plane.name].generation, "it is not ahead"
    assert kept <= plane.running.keys()


def test_a_removal_keeps_the_highest_revision_there_was_and_the_newest_of_a_name(
    database: Database,
) -> None:
    with database.write() as session:
        write = WriteContext(epoch=take_leadership(session, "cp", T0), actor="user:a", now=T0)
        for tokens in (1024, 2048):
            _apply(session, write, tokens)
        deployments.rollback_deployment(session, write, "demo", 1, "", "")
        _remove(session, write)
        [kept] = list_removals(session)
        assert (kept.deployment.revision.number, kept.last_revision) == (1, 2)
        assert kept.removed_at == T0
        later = replace(write, now=T0 + timedelta(days=1))
        _apply(session, later, 1024)
        _remove(session, later)
        [kept] = list_removals(session)
        assert (kept.last_revision, kept.removed_at) == (3, later.now)


def test_only_the_newest_removals_are_kept(database: Database) -> None:
    with database.write() as session:
        write = WriteContext(epoch=take_leadership(session, "cp", T0), actor="user:a", now=T0)
        rows = [
            {
                "name": f"d{number}",
                "deployment": a_deployment(f"d{number}"),
                "last_revision": 1,
                "removed_at": T0 - timedelta(days=1 + number),
            }
            for number in range(REMOVALS_KEPT_MAX)
        ]
        session.execute(tables.removals.insert(), rows)
        _apply(session, write, 1024)
        _remove(session, write)
        kept = {one.deployment.name for one in list_removals(session)}
    assert len(kept) == REMOVALS_KEPT_MAX
    assert "demo" in kept
    assert f"d{REMOVALS_KEPT_MAX - 1}" not in kept


def test_what_an_older_release_removed_is_known_from_its_change_log(url: str) -> None:
    upgrade(url)
    database = open_database(url)
    with database.write() as session:
        write = WriteContext(epoch=take_leadership(session, "cp", T0), actor="user:a", now=T0)
        for tokens in (1024, 2048):
            _apply(session, write, tokens)
        _remove(session, write)
        expected = list_removals(session)
    database.close()
    command.downgrade(alembic_config(url), "0018")
    upgrade(url)
    database = open_database(url)
    with database.read() as session:
        assert list_removals(session) == expected
    database.close()


def _apply(session: object, write: WriteContext, tokens: int) -> None:
    one = a_deployment()
    engine = replace(one.revision.engine, context_tokens=tokens)
    one = replace(one, revision=replace(one.revision, engine=engine))
    deployments.apply_deployment(session, write, one, "", "")  # type: ignore[arg-type]


def _remove(session: object, write: WriteContext) -> None:
    deployments.mark_deleting(session, write, "demo", "", "")  # type: ignore[arg-type]
    assert deployments.remove_deployment(session, write, "demo")  # type: ignore[arg-type]
