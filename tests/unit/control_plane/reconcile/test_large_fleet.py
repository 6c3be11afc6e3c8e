"""Judging a large fleet, in which each plane is looked at by a few others and not by all."""

from dataclasses import replace

from control_plane.reconcile.failover import judge
from control_plane.reconcile.snapshot import LinkView, PlaneView
from control_plane.reconcile.testimony import PLANES_TOLD_MAX
from skerry.fleet.observation import PeerVerdict, PlaneState
from tests.builders import a_plane_view, a_snapshot

COUNT = PLANES_TOLD_MAX + 50
SILENT = LinkView(connected=False, silent_seconds=60.0)


def a_fleet(verdict: PeerVerdict) -> list[PlaneView]:
    """Return planes of which the first is silent, and the next two say that of it."""
    sees = {"p000": verdict, "p010": PeerVerdict.SERVING, "p011": PeerVerdict.SERVING}
    return [
        replace(a_plane_view("p000"), link=SILENT),
        *(
            a_plane_view(f"p{number:03d}", sees=sees if number < 3 else {})
            for number in range(1, COUNT)
        ),
    ]


def test_the_witnesses_of_a_plane_are_those_that_look_at_it() -> None:
    conditions = judge(a_snapshot(*a_fleet(PeerVerdict.SERVING)))
    assert conditions["p000"].state is PlaneState.DISCONNECTED
    assert [view.plane for view in conditions["p000"].witnesses] == ["p001", "p002"]


def test_who_is_heard_as_before_keeps_its_condition_as_it_is() -> None:
    fleet = a_fleet(PeerVerdict.SERVING)
    conditions = judge(a_snapshot(*fleet))
    assert list(conditions) == [view.name for view in fleet]
    assert all(conditions[view.name] is view.condition for view in fleet[1:])


def test_a_plane_that_nobody_looks_at_is_never_lost_by_itself() -> None:
    fleet = [replace(a_plane_view("p000"), link=SILENT)]
    fleet += [a_plane_view(f"p{number:03d}", sees={}) for number in range(1, COUNT)]
    assert judge(a_snapshot(*fleet))["p000"].state is PlaneState.SUSPECT
