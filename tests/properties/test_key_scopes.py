"""What gateways are told of keys: a key opens what its own project has, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from control_plane.reconcile.key_scopes import TOLD_NAMES_MAX, is_shared, scoped
from skerry.fleet.api_key import DEPLOYMENTS_MAX, ApiKey, KeyTerms
from skerry.wire.api_keys import key_ring_from_proto, key_ring_to_proto

PROJECTS = ("default", "red", "blue")
NAMES = ("a", "b", "c", "no-deployment", "no-deployment-2")
owned = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(PROJECTS))


def a_key(project: str, *deployments: str, name: str = "k") -> ApiKey:
    terms = KeyTerms(deployments=deployments)
    return ApiKey(name=name, digest=bytes(32), terms=terms, project=project)


@st.composite
def keys(draw: st.DrawFn) -> ApiKey:
    named = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
    return a_key(draw(st.sampled_from(PROJECTS)), *draw(st.one_of(st.just(["*"]), named)))


@given(st.lists(keys(), max_size=5), owned, owned)
def test_no_key_opens_what_is_another_projects(
    made: list[ApiKey], owners: dict[str, str], gone: dict[str, str]
) -> None:
    for key, told in zip(made, scoped(made, owners, gone), strict=True):
        assert (told.name, told.project) == (key.name, key.project)
        assert not told.terms.is_for_all
        for name in told.terms.deployments:
            assert {**gone, **owners}.get(name) in (None, key.project)
        if not key.terms.is_for_all:
            assert not told.every_of_project
        # What was dropped is none of its own.
        for name in key.terms.deployments:
            if owners.get(name) == key.project:
                assert name in told.terms.deployments


@given(st.lists(keys(), max_size=5), owned)
def test_planes_read_back_what_is_told(made: list[ApiKey], owners: dict[str, str]) -> None:
    told = scoped(made, owners, {})
    assert key_ring_from_proto(key_ring_to_proto(told)) == told


def test_a_key_for_every_deployment_is_for_its_projects_alone() -> None:
    owners = {"a": "red", "b": "blue", "c": "red"}
    (red, fleets) = scoped((a_key("red", "*"), a_key("default", "*")), owners, {})
    assert (red.terms.deployments, red.every_of_project) == (("a", "c"), True)
    # Of the fleet's own there is none: what stands there is nobody's.
    assert (fleets.terms.deployments, fleets.every_of_project) == (("no-deployment",), True)


def test_a_list_is_no_longer_than_planes_of_earlier_releases_take() -> None:
    owners = {f"d-{number:03}": "red" for number in range(DEPLOYMENTS_MAX + 5)}
    (told,) = scoped((a_key("red", "*"),), owners, {})
    assert told.terms.deployments == tuple(sorted(owners)[:DEPLOYMENTS_MAX])


def test_a_name_that_is_nobodys_yet_opens_nothing_and_one_that_ends_still_does() -> None:
    (told,) = scoped((a_key("red", "a", "b", "c"),), {"a": "red"}, {"b": "red", "c": "blue"})
    assert told.terms.deployments == ("a", "b")


def test_a_fleet_of_one_project_is_shared_with_nobody() -> None:
    assert not is_shared((a_key("default", "*"),), {"a": "default"})
    assert is_shared((a_key("red", "a"),), {})
    assert is_shared((), {"a": "red"})


def test_names_that_only_earlier_releases_read_never_fill_a_desired_state() -> None:
    owners = {f"d{number:03d}": "red" for number in range(DEPLOYMENTS_MAX)}
    keys = [
        ApiKey(
            name=f"k{number}", digest=bytes(32), terms=KeyTerms(deployments=("*",)), project="red"
        )
        for number in range(1_000)
    ]
    told = scoped(keys, owners, {})
    assert sum(len(key.terms.deployments) for key in told) <= TOLD_NAMES_MAX + len(keys)
    assert all(key.every_of_project and key.terms.deployments for key in told)
