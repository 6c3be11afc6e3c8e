"""Access decisions: default deny, and never less for who may do more."""

from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.access.decision import Named, may_grant, may_see, refusal_of
from control_plane.api.access.matrix import MATRIX, Scope
from skerry.fleet.access import INCLUDES, Grant, Principal, Role
from skerry.plumbing.errors import Denied

METHODS = sorted(MATRIX)
HERE = Named(projects=frozenset({"default"}))

names = st.sampled_from(["red", "blue", "default"])
planes = st.sampled_from(["fra", "gcp"])
roles = st.sampled_from(list(Role))


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    role = draw(roles)
    least = 1 if role is Role.PLANE else 0
    return Grant(
        role=role,
        projects=draw(st.one_of(st.just(("*",)), st.lists(names, min_size=1).map(tuple))),
        planes=tuple(draw(st.lists(planes, min_size=least))),
    )


named = st.builds(Named, projects=st.frozensets(names), planes=st.frozensets(planes))


def of(*held: Grant) -> Principal:
    return Principal(actor="token:t", grants=held, credential="token:t")


@given(st.sampled_from(METHODS), named)
def test_who_was_granted_nothing_may_do_nothing(method: str, told: Named) -> None:
    assert isinstance(refusal_of(of(), method, told), Denied)


@given(st.sampled_from(METHODS), named, grants())
def test_it_never_allows_less_to_know_more(method: str, told: Named, grant: Grant) -> None:
    """A role that has another in it, in the same places, may do whatever that one may."""
    if refusal_of(of(grant), method, told) is not None:
        return
    for role in Role:
        if grant.role in INCLUDES[role]:
            wider = Grant(role=role, projects=grant.projects, planes=grant.planes)
            assert refusal_of(of(wider), method, told) is None


@given(st.sampled_from(METHODS), named, grants(), grants())
def test_another_grant_takes_nothing_away(method: str, told: Named, one: Grant, two: Grant) -> None:
    if refusal_of(of(one), method, told) is None:
        assert refusal_of(of(two, one), method, told) is None


@given(st.sampled_from(METHODS), named, grants())
def test_nothing_outside_a_grant_is_let_in(method: str, told: Named, grant: Grant) -> None:
    if refusal_of(of(grant), method, told) is not None:
        return
    assert MATRIX[method].role in INCLUDES[grant.role]
    assert "*" in grant.projects or (told.projects and told.projects <= set(grant.projects))
    if grant.planes:
        assert MATRIX[method].scope is Scope.PLANE
        assert told.planes
        assert told.planes <= set(grant.planes)


@given(grants(), grants())
def test_who_may_give_a_grant_may_do_all_that_it_allows(mine: Grant, given_away: Grant) -> None:
    if not may_grant(of(mine), given_away):
        return
    assert may_see(of(mine), given_away)
    for method in METHODS:
        for told in (HERE, Named(projects=HERE.projects, planes=frozenset({"fra"}))):
            if refusal_of(of(given_away), method, told) is None:
                assert refusal_of(of(mine), method, told) is None
