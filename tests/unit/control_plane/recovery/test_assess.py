"""What differs between a database and its planes, and who decides about it."""

from dataclasses import replace

from control_plane.recovery.assess import (
    Assessment,
    Facts,
    Quarantined,
    Resolution,
    Told,
    assess,
    quarantined_in,
)
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import Candidate
from skerry.fleet.generation import NEVER
from skerry.fleet.observation import PlaneState
from tests.builders import a_demand, a_deployment, a_plane_view, a_replica, a_report, a_snapshot
from tests.unit.control_plane.recovery.worlds import (
    a_held_state,
    a_version,
    at_revision,
    holding,
    told,
)

OLD = a_version(epoch=3, generation=5)


def conflicts(found: Assessment) -> list[str]:
    return [d.subject for d in found.differences if d.resolution is Resolution.CONFLICT]


def adopted(found: Assessment) -> list[str]:
    return [d.subject for d in found.differences if d.resolution is Resolution.ADOPT]


def test_a_database_that_knows_what_its_planes_hold_has_nothing_to_recover() -> None:
    state = a_held_state("fra", a_deployment())
    snapshot = a_snapshot(holding(state), demands=(a_demand(),), desired=(state,))
    found = assess(Facts(snapshot=snapshot, epoch=4))
    assert found == Assessment()
    assert not found.is_recovering


def test_a_new_plane_is_nothing_to_recover() -> None:
    snapshot = a_snapshot(a_plane_view("fra", state=None, report=a_report("fra", held=NEVER)))
    assert not assess(Facts(snapshot=snapshot, epoch=1)).is_recovering


def test_a_plane_with_a_higher_generation_is_asked_and_waited_for() -> None:
    state = a_held_state("fra", a_deployment())
    snapshot = a_snapshot(holding(state), desired=(replace(state, version=OLD),))
    found = assess(Facts(snapshot=snapshot, epoch=4))
    assert found.to_ask == ("fra",)
    assert found.waits_for == ("plane fra: it is asked what it holds",)
    assert not found.may_end
    assert "fra holds version 4.9, the database knows 3.5" in found.reason


def test_with_no_database_all_is_adopted_once_every_plane_told() -> None:
    states = [
        a_held_state("fra", a_deployment("demo"), a_deployment("chat"), peers=("sin",)),
        a_held_state("sin", a_deployment("demo"), a_deployment("chat"), peers=("fra",)),
    ]
    snapshot = a_snapshot(*(holding(state) for state in states))
    answers = {state.plane: told(state) for state in states}
    found = assess(Facts(snapshot=snapshot, epoch=1, told=answers))
    assert adopted(found) == ["planes/fra", "planes/sin", "deployments/chat", "deployments/demo"]
    assert conflicts(found) == []
    assert found.may_end


def test_a_plane_that_others_name_is_waited_for() -> None:
    state = a_held_state("fra", a_deployment(), peers=("sin",))
    snapshot = a_snapshot(holding(state))
    found = assess(Facts(snapshot=snapshot, epoch=1, told={"fra": told(state)}))
    assert found.waits_for == ("plane sin: it is not heard yet",)


def test_planes_that_are_not_heard_are_waited_for_unless_they_are_lost() -> None:
    silent = a_plane_view("sin")
    silent = replace(silent, link=replace(silent.link, report=None, connected=False))
    lost = a_plane_view("tok", state=PlaneState.LOST)
    lost = replace(lost, link=replace(lost.link, report=None, connected=False))
    snapshot = a_snapshot(silent, lost)
    found = assess(Facts(snapshot=snapshot, epoch=2, mark="restored"))
    assert found.reason == "restored"
    assert found.waits_for == ("plane sin: it is not heard yet",)
    assert [sight.note for sight in found.planes if sight.plane == "sin"] == [
        "not heard: its share stays reserved as the database has it"
    ]


def test_a_plane_that_lost_what_it_was_told_since_the_backup_shows_that_it_is_one() -> None:
    """Its newest copy is damaged: what it holds is known, and what it had seen is not."""
    state = a_held_state("fra", a_deployment(), version=OLD)
    snapshot = a_snapshot(holding(state, seen=a_version(4, 9)), desired=(state,))
    found = assess(Facts(snapshot=snapshot, epoch=3))
    assert found.to_ask == ("fra",)
    assert "fra lost version 4.9 to damage and holds 3.5" in found.reason
    assert found.epoch_floor == 4
    ended = assess(Facts(snapshot=snapshot, epoch=3, told={"fra": told(state)}))
    assert ended.may_end


def test_a_restored_database_that_lacks_nothing_ends_by_itself() -> None:
    state = a_held_state("fra", a_deployment())
    snapshot = a_snapshot(holding(state), demands=(a_demand(),), desired=(state,))
    found = assess(Facts(snapshot=snapshot, epoch=5, mark="restored"))
    assert found.is_recovering
    assert found.may_end
    assert found.epoch_floor == 0


def test_the_next_epoch_is_above_all_that_planes_hold_or_were_welcomed_under() -> None:
    state = a_held_state("fra", a_deployment())
    behind = holding(a_held_state("sin"), newest_epoch=11)
    snapshot = a_snapshot(holding(state, newest_epoch=7), behind)
    assert assess(Facts(snapshot=snapshot, epoch=2)).epoch_floor == 11
    snapshot = a_snapshot(holding(state))
    assert assess(Facts(snapshot=snapshot, epoch=4)).epoch_floor == 4  # of a forgotten leader
    assert assess(Facts(snapshot=snapshot, epoch=5)).epoch_floor == 0  # ours is above it already


def found_with(
    *planes: tuple[str, Deployment], stored: Deployment | None, epochs: dict[str, int] | None = None
) -> Assessment:
    """Planes that hold a deployment each, more than the database does."""
    states = [
        a_held_state(name, one, version=a_version(epoch=(epochs or {}).get(name, 4)))
        for name, one in planes
    ]
    demands = (a_demand(stored),) if stored else ()
    snapshot = a_snapshot(*(holding(state) for state in states), demands=demands)
    answers = {state.plane: told(state) for state in states}
    return assess(Facts(snapshot=snapshot, epoch=9, told=answers))


def test_a_newer_revision_of_a_plane_is_adopted() -> None:
    newer = at_revision(a_deployment(), 5)
    found = found_with(("fra", newer), ("sin", a_deployment()), stored=a_deployment())
    assert found.truths["demo"].deployment == newer
    assert "deployments/demo" in adopted(found)
    assert found.may_end


def test_an_older_revision_of_a_plane_changes_nothing() -> None:
    found = found_with(("fra", a_deployment()), stored=at_revision(a_deployment(), 5))
    assert adopted(found) == ["planes/fra"]


def test_digests_that_the_catalogue_added_are_no_difference() -> None:
    stored = a_deployment()
    model = replace(stored.revision.base_model, uri="builtin://skerry-tiny#sha256=" + "0" * 64)
    marked = replace(stored, revision=replace(stored.revision, base_model=model))
    assert adopted(found_with(("fra", marked), stored=stored)) == ["planes/fra"]


def test_two_specs_of_one_revision_are_for_a_person_unless_one_is_newer() -> None:
    one = a_deployment(replicas=2)
    other = a_deployment(replicas=3)
    planes = ("fra", one), ("sin", other), ("tok", other)
    found = found_with(*planes, stored=None)
    assert conflicts(found) == ["deployments/demo"]
    assert found.truths["demo"].deployment == other  # that of most planes
    later = found_with(*planes, stored=None, epochs={"fra": 5})
    assert conflicts(later) == []
    assert later.truths["demo"].deployment == one


def test_a_rollout_under_way_is_adopted_at_its_newest_revision() -> None:
    state = a_held_state("fra", a_deployment())
    revision = at_revision(a_deployment(), 2).revision
    candidate = Candidate(revision=revision, replicas=(("fra--cpu", 1),))
    state = replace(state, assignments=(replace(state.assignments[0], candidate=candidate),))
    snapshot = a_snapshot(holding(state))
    found = assess(Facts(snapshot=snapshot, epoch=1, told={"fra": told(state)}))
    assert found.truths["demo"].deployment.revision.number == 2


def test_a_deployment_that_no_plane_names_any_more_is_for_a_person() -> None:
    state = a_held_state("fra", a_deployment("demo"))
    demands = (a_demand(a_deployment("demo")), a_demand(a_deployment("gone")))
    snapshot = a_snapshot(holding(state), demands=demands)
    found = assess(Facts(snapshot=snapshot, epoch=9, told={"fra": told(state)}))
    assert conflicts(found) == ["deployments/gone"]
    assert not found.may_end


def test_what_was_being_deleted_goes_on_being_deleted() -> None:
    state = a_held_state("fra", a_deployment(), deleting=("demo",))
    snapshot = a_snapshot(holding(state), demands=(a_demand(),))
    found = assess(Facts(snapshot=snapshot, epoch=9, told={"fra": told(state)}))
    assert found.truths["demo"].deleting
    assert found.may_end


def test_replicas_that_nobody_describes_are_quarantined_and_for_a_person() -> None:
    state = a_held_state("fra", a_deployment())
    stray = a_replica("stray", pool="fra--cpu", revision=3)
    snapshot = a_snapshot(holding(state, stray, stray))
    found = assess(Facts(snapshot=snapshot, epoch=9, told={"fra": told(state)}))
    expected = (Quarantined(plane="fra", deployment="stray", revision=3, replicas=2),)
    assert found.quarantined == expected
    assert conflicts(found) == ["deployments/stray"]
    assert quarantined_in(snapshot) == expected


def test_a_plane_of_an_older_release_cannot_tell_and_is_not_waited_for() -> None:
    state = a_held_state("fra", a_deployment())
    snapshot = a_snapshot(holding(state), demands=(a_demand(),))
    answers = {"fra": Told(plane="fra", state=None)}
    found = assess(Facts(snapshot=snapshot, epoch=9, told=answers))
    assert found.to_ask == ()
    assert found.may_end
    assert found.planes[0].note == "cannot tell what it holds; what it runs counts"
