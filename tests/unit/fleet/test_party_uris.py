"""Which URIs name a plane: ours, SPIFFE's where it is alone, and nothing that resembles them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.fleet.party_uris import (
    CONTROL_PLANE,
    PLANE,
    TRUST_DOMAIN_CHARACTERS_MAX,
    Naming,
    UriForm,
    names_plane,
    why_not_plane,
)

OURS = "skerry://projects/default/planes/fra"
SPIFFE = "spiffe://acme.example/project/default/plane/fra"
FRA = ("acme.example", "default", "fra")
LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


def test_a_certificate_is_issued_with_one_of_two_uris() -> None:
    naming = Naming(project="default", trust_domain="acme.example")
    assert naming.uri(PLANE, "fra") == OURS
    assert naming.uri(CONTROL_PLANE, "cp") == "skerry://projects/default/control-planes/cp"
    spiffe = Naming(project="default", form=UriForm.SPIFFE, trust_domain="acme.example")
    assert spiffe.uri(PLANE, "fra") == SPIFFE


@pytest.mark.parametrize("uris", [(OURS,), (SPIFFE,), (OURS, SPIFFE), ("urn:other", OURS)])
def test_either_form_names_a_plane_and_ours_also_beside_others(uris: tuple[str, ...]) -> None:
    assert names_plane(uris, *FRA)


@pytest.mark.parametrize(
    ("uris", "why"),
    [
        ((), "no name at all"),
        ((SPIFFE, SPIFFE.replace("fra", "aws")), "alone, as SPIFFE has it"),
        ((SPIFFE.replace("acme.example", "other"),), "trust_domain .* is 'acme.example'"),
        ((f"{SPIFFE}/x",), "carries"),
        ((SPIFFE.replace("/plane/", "/control-plane/"),), "carries"),
        ((SPIFFE.replace("spiffe:", "SPIFFE:"),), "carries"),
        ((OURS.replace("default", "another"),), "carries"),
    ],
)
def test_what_only_resembles_it_names_no_plane_and_is_told(uris: tuple[str, ...], why: str) -> None:
    assert not names_plane(uris, *FRA)
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(why_not_plane(uris, *FRA))


@given(LABELS, LABELS, st.sampled_from(UriForm))
def test_a_plane_is_named_by_its_own_uri_and_by_no_other_planes(
    one: str, other: str, form: UriForm
) -> None:
    naming = Naming(project="default", form=form)
    named = names_plane((naming.uri(PLANE, one),), naming.trust_domain, "default", other)
    assert named == (one == other)


@pytest.mark.parametrize("domain", ["", "Acme", "acme:443", "user@acme", "a/b", "a" * 256, "é"])
def test_what_spiffe_takes_for_no_trust_domain_is_refused(domain: str) -> None:
    with pytest.raises(ValueError, match=f"1-{TRUST_DOMAIN_CHARACTERS_MAX} characters"):
        Naming(project="default", trust_domain=domain)
