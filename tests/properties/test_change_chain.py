"""Nothing done to a chain of records goes unseen: altered, removed, moved, added, written anew."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.change_chain import (
    CONTENT_FIELDS,
    Link,
    Noted,
    Verified,
    beyond,
    content_of,
    digest_of,
    verify_links,
)
from tests.properties.examples import examples

modest = settings(max_examples=examples(200), deadline=None, derandomize=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
START = Verified(sequence=0, digest=None)


def a_content(sequence: int, effect: object, reason: str = "why") -> str:
    return content_of([sequence, *["told"] * (len(CONTENT_FIELDS) - 4), reason, None, effect][:11])


def chained(contents: list[str], first: int = 1, previous: bytes | None = None) -> list[Link]:
    links = []
    for sequence, content in enumerate(contents, first):
        digest = digest_of(content, previous)
        links.append(Link(sequence=sequence, content=content, previous=previous, digest=digest))
        previous = digest
    return links


@st.composite
def chains(draw: st.DrawFn, at_least: int = 1) -> list[Link]:
    effects = draw(st.lists(JSON, min_size=at_least, max_size=8))
    return chained([a_content(number, effect) for number, effect in enumerate(effects, 1)])


def the_end(links: list[Link]) -> Noted:
    last = links[-1]
    assert last.digest is not None
    return Noted(sequence=last.sequence, digest=last.digest)


def verified(links: list[Link], noted: Noted | None = None) -> Verified:
    return beyond(verify_links(links, START, noted), noted)


@modest
@given(chains())
def test_an_untouched_chain_is_sound_and_has_the_digest_that_was_noted(links: list[Link]) -> None:
    found = verified(links, the_end(links))
    assert (found.fault, found.checked, found.unprotected) == ("", len(links), 0)
    assert (found.sequence, found.digest) == (links[-1].sequence, links[-1].digest)


@modest
@given(chains(), st.data())
def test_verified_in_pieces_it_is_found_as_in_one(links: list[Link], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(links)))
    broken = data.draw(st.booleans())
    if broken:
        links = [*links[:-1], replace(links[-1], content="[]")]
    noted = data.draw(st.sampled_from([None, the_end(links)]))
    piece = verify_links(links[:cut], START, noted)
    rest = piece if piece.fault else verify_links(links[cut:], piece, noted)
    assert rest == verify_links(links, START, noted)


@modest
@given(chains(at_least=3), st.data())
def test_whatever_is_done_to_one_record_is_found_at_it(
    links: list[Link], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(links) - 2))
    done = data.draw(
        st.sampled_from(["altered", "resealed", "removed", "swapped", "doubled", "unprotected"])
    )
    old, after = links[at], links[at + 1]
    other = a_content(old.sequence, "another", "never said")
    match done:
        case "altered":
            links[at] = replace(old, content=other)
        case "resealed":
            links[at] = replace(old, content=other, digest=digest_of(other, old.previous))
        case "removed":
            del links[at]
        case "swapped":
            links[at], links[at + 1] = after, old
        case "doubled":
            links.insert(at, old)
        case "unprotected":
            links[at] = replace(old, content=other, previous=None, digest=None)
    found = verified(links)
    assert found.fault
    assert found.sequence in (old.sequence, after.sequence)


@modest
@given(chains(), st.data())
def test_a_chain_written_anew_is_found_by_what_was_noted(
    links: list[Link], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(links) - 1))
    contents = [link.content for link in links]
    contents[at] = a_content(at + 1, "another", "never said")
    anew = chained(contents)
    assert verified(anew).fault == ""
    assert "was replaced" in verified(anew, the_end(links)).fault


@modest
@given(chains(at_least=2), st.data())
def test_a_chain_cut_at_its_end_is_found_by_what_was_noted(
    links: list[Link], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, len(links) - 1))
    found = verified(links[:kept], the_end(links))
    assert f"ends at change {kept}" in found.fault


@modest
@given(chains(at_least=2), st.data())
def test_a_chain_whose_beginning_was_forgotten_goes_on_from_the_digest_that_was_told(
    links: list[Link], data: st.DataObject
) -> None:
    up_to = data.draw(st.integers(1, len(links) - 1))
    kept = links[up_to:]
    start = Verified(sequence=up_to, digest=links[up_to - 1].digest)
    assert verify_links(kept, start).fault == ""
    contents = [link.content for link in kept]
    contents[0] = a_content(up_to + 1, "another", "never said")
    other = chained(contents, up_to + 1, previous=b"x" * 32)
    assert verify_links(other, replace(start, digest=None)).fault == ""
    assert "does not follow" in verify_links(other, start).fault


@modest
@given(JSON)
def test_a_content_is_the_same_text_when_it_was_read_and_written_again(effect: object) -> None:
    content = a_content(1, effect)
    link = Link(sequence=1, content=content, previous=None, digest=None)
    assert content_of([link.fields()[name] for name in CONTENT_FIELDS]) == content
