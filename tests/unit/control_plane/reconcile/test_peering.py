"""Which peers planes of small and of large fleets are told of."""

from dataclasses import replace

from control_plane.reconcile.peering import PEERS_MAX, SERVING_MAX, WITNESSES_EACH_SIDE, peering_of
from control_plane.reconcile.snapshot import PlaneView
from skerry.fleet.pool import PlaneIdentity
from tests.builders import a_plane_view

CLOUDS = ("aws", "azure", "gcp")


def a_fleet(count: int) -> list[PlaneView]:
    """Return planes in three clouds of ten regions each."""
    views = []
    for number in range(count):
        name = f"p{number:05d}"
        place = PlaneIdentity(name=name, cloud=CLOUDS[number % 3], region=f"r{number // 3 % 10}")
        views.append(replace(a_plane_view(name), identity=place))
    return views


def test_in_a_small_fleet_everybody_is_everybodys_peer() -> None:
    fleet = a_fleet(PEERS_MAX + 1)
    peering = peering_of(fleet, {"demo": ["p00000"]})
    assert peering.planes == 0  # peers say how many there are
    for view in fleet:
        assert peering.names(view) == tuple(v.name for v in fleet if v is not view)


def test_in_a_large_fleet_peers_are_few_and_the_size_is_told_instead() -> None:
    fleet = a_fleet(2_000)
    serving = {f"d{n}": [v.name for v in fleet[n::50]] for n in range(50)}
    peering = peering_of(fleet, serving)
    assert peering.planes == 2_048
    for view in fleet[::100]:
        names = peering.names(view)
        assert len(names) == len(set(names)) <= PEERS_MAX
        assert view.name not in names


def test_every_plane_of_a_large_fleet_is_watched_by_planes_of_several_clouds() -> None:
    fleet = a_fleet(500)
    peering = peering_of(fleet, {})
    watchers: dict[str, list[str]] = {}
    clouds = {view.name: view.identity.cloud for view in fleet}
    for view in fleet:
        for name in peering.names(view):
            watchers.setdefault(name, []).append(view.name)
    assert {len(found) for found in watchers.values()} == {2 * WITNESSES_EACH_SIDE}
    assert min(len({clouds[name] for name in found}) for found in watchers.values()) >= 2


def test_the_nearest_planes_that_serve_a_deployment_are_among_the_peers() -> None:
    fleet = a_fleet(900)
    near = [v for v in fleet if (v.identity.cloud, v.identity.region) == ("aws", "r0")]
    serving = [v.name for v in (*near[:SERVING_MAX], *fleet[1::9])]
    peering = peering_of(fleet, {"demo": serving})
    assert {v.name for v in near[:SERVING_MAX]} <= {*peering.names(near[10])}


def test_a_plane_that_joins_changes_few_others() -> None:
    fleet = a_fleet(1_000)
    serving = {"demo": [view.name for view in fleet[::10]]}
    before = peering_of(fleet[:-1], serving)
    after = peering_of(fleet, serving)
    changed = [v.name for v in fleet[:-1] if before.names(v) != after.names(v)]
    assert len(changed) <= 2 * WITNESSES_EACH_SIDE


def test_every_deployment_has_a_plane_that_serves_it_while_there_is_room() -> None:
    fleet = a_fleet(1_000)
    serving = {f"d{n}": [fleet[n * 7].name, fleet[n * 7 + 1].name] for n in range(40)}
    names = {*peering_of(fleet, serving).names(fleet[999])}
    assert all(names & {*planes} for planes in serving.values())
