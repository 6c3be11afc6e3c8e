"""What is written when a recovery ends: what runs is truth, and nothing is taken from anybody."""

from dataclasses import replace

from control_plane.recovery.adopt import REASON, adoption_of
from control_plane.recovery.assess import Facts, Told, assess
from skerry.fleet.placement import Placement
from tests.builders import a_demand, a_deployment, a_plane_view, a_replica, a_snapshot
from tests.unit.control_plane.recovery.worlds import (
    a_held_state,
    a_version,
    an_envelope,
    at_revision,
    holding,
    told,
)


def test_planes_that_told_are_known_as_they_are() -> None:
    state = a_held_state("fra", a_deployment(), replicas=2)
    facts = Facts(snapshot=a_snapshot(holding(state)), epoch=1, told={"fra": told(state)})
    adoption = adoption_of(facts, assess(facts))
    [plane] = adoption.planes
    assert (plane.version, plane.payload) == (a_version(), told(state).payload)
    assert plane.envelopes == (an_envelope("demo", "fra", 2),)
    [deployment] = adoption.deployments
    assert deployment.deployment == a_deployment()
    placed = Placement(deployment="demo", pool="fra--cpu", count=2, reason=REASON)
    assert adoption.placements == (placed,)
    assert adoption.epoch_floor == 4


def test_who_is_revoked_stays_so_also_where_most_planes_were_told_of_nobody() -> None:
    states = {
        plane: replace(a_held_state(plane, a_deployment()), revoked_planes=names)
        for plane, names in (("fra", ("edge-ams",)), ("sin", ()), ("sao", ()))
    }
    snapshot = a_snapshot(*(holding(state) for state in states.values()))
    answers = {plane: told(state) for plane, state in states.items()}
    facts = Facts(snapshot=snapshot, epoch=1, told=answers)
    assert adoption_of(facts, assess(facts)).revoked_planes == ("edge-ams",)


def test_what_follows_is_above_what_a_plane_had_seen_and_lost_to_damage() -> None:
    state = a_held_state("fra", a_deployment())
    snapshot = a_snapshot(holding(state, seen=a_version(4, 12)))
    facts = Facts(snapshot=snapshot, epoch=1, told={"fra": told(state)})
    [plane] = adoption_of(facts, assess(facts)).planes
    assert (plane.version.generation, plane.payload) == (12, told(state).payload)
    silent = replace(facts, told={"fra": Told(plane="fra", state=None)})
    [plane] = adoption_of(silent, assess(silent)).planes
    assert (plane.version.generation, plane.payload) == (12, b"")


def test_planes_that_are_not_heard_keep_what_the_database_has_of_them() -> None:
    state = a_held_state("fra", a_deployment())
    stored = Placement(deployment="demo", pool="sin--cpu", count=3, reason="r")
    gone = Placement(deployment="demo", pool="fra--cpu", count=9, reason="r")
    snapshot = a_snapshot(
        holding(state), a_plane_view("sin"), demands=(a_demand(),), placements=(gone, stored)
    )
    facts = Facts(snapshot=snapshot, epoch=9, told={"fra": told(state)})
    adoption = adoption_of(facts, assess(facts))
    assert [(p.pool, p.count) for p in adoption.placements] == [("fra--cpu", 1), ("sin--cpu", 3)]


def test_of_a_plane_that_cannot_tell_what_runs_counts() -> None:
    state = a_held_state("fra", a_deployment())
    runs = [a_replica(pool="fra--cpu", name=f"demo-{n}") for n in range(2)]
    stray = a_replica("stray", pool="fra--cpu")
    snapshot = a_snapshot(holding(state, *runs, stray), demands=(a_demand(),))
    facts = Facts(snapshot=snapshot, epoch=9, told={"fra": Told(plane="fra", state=None)})
    adoption = adoption_of(facts, assess(facts))
    assert [(p.deployment, p.count) for p in adoption.placements] == [("demo", 2)]
    assert [(p.plane, p.version, p.payload) for p in adoption.planes] == [("fra", a_version(), b"")]
    assert adoption.details["quarantined"] == ("1 of stray revision 1 on fra",)


def test_every_revision_that_planes_hold_is_kept() -> None:
    states = [
        a_held_state("fra", at_revision(a_deployment(), 2)),
        a_held_state("sin", at_revision(a_deployment(), 5)),
    ]
    snapshot = a_snapshot(*(holding(state) for state in states))
    facts = Facts(snapshot=snapshot, epoch=1, told={s.plane: told(s) for s in states})
    [deployment] = adoption_of(facts, assess(facts)).deployments
    assert [revision.number for revision in deployment.revisions] == [2, 5]
    assert deployment.deployment.revision.number == 5


def test_a_deployment_whose_served_name_another_has_by_now_is_superseded() -> None:
    state = a_held_state("fra", a_deployment("new"))
    old = a_deployment("old")
    served = a_deployment("new").revision.base_model
    old = replace(old, revision=replace(old.revision, base_model=served))
    snapshot = a_snapshot(holding(state), demands=(a_demand(old),))
    facts = Facts(snapshot=snapshot, epoch=9, told={"fra": told(state)})
    assert adoption_of(facts, assess(facts)).superseded == ("old",)


def test_of_two_deployments_of_one_served_name_the_newer_keeps_it_and_a_person_is_asked() -> None:
    """A plane that was away while the name passed on still holds the old one."""
    served = a_deployment("old").revision.base_model
    new = a_deployment("new")
    new = replace(new, revision=replace(new.revision, base_model=served))
    late = a_held_state("fra", a_deployment("old"))
    state = a_held_state("sin", new)
    for stored in ((a_demand(a_deployment("old")),), ()):
        planes = holding(late), holding(state), holding(replace(state, plane="tok"))
        states = late, state, replace(state, plane="tok")
        snapshot = a_snapshot(*planes, demands=stored)
        facts = Facts(snapshot=snapshot, epoch=9, told={s.plane: told(s) for s in states})
        found = assess(facts)
        assert not found.may_end
        adoption = adoption_of(facts, found)
        assert adoption.superseded == ("old",)
        goes = {one.deployment.name: one.deleting for one in adoption.deployments}
        assert goes == ({"new": False} if stored else {"new": False, "old": True})


def test_what_goes_anyway_gives_its_served_name_up_and_asks_nobody() -> None:
    served = a_deployment("old").revision.base_model
    new = a_deployment("new")
    new = replace(new, revision=replace(new.revision, base_model=served))
    late = a_held_state("fra", a_deployment("old"), deleting=("old",))
    state = a_held_state("sin", new)
    snapshot = a_snapshot(
        holding(late), holding(state), demands=(a_demand(a_deployment("old"), deleting=True),)
    )
    facts = Facts(snapshot=snapshot, epoch=9, told={"fra": told(late), "sin": told(state)})
    found = assess(facts)
    assert found.may_end
    assert adoption_of(facts, found).superseded == ("old",)
