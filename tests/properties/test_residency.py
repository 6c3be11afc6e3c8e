"""The proof of residency never says "none left" of what was not recorded, or was tampered with."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.change_chain import Link, Verified
from skerry.fleet.residency import MINUTE_MS, Record, Row, Seen, Way, follow, link_of, record_of
from skerry.fleet.residency_proof import PlaneEvidence, Proof, merged, prove
from tests.properties.examples import examples
from workload_plane.residency.rollup import (
    RUN_SLACK_MS,
    TAKE_UP_MS,
    Look,
    Terms,
    next_records,
    roll_up,
)

modest = settings(max_examples=examples(200), deadline=None, derandomize=True)
ZONES = st.sampled_from([("de",), ("eu",), ("us",), ("de", "eu")])
FIRST = 1_000  # the first minute of every time here
LAST = FIRST + 10


@st.composite
def rows(draw: st.DrawFn) -> Row:
    way = draw(st.sampled_from(Way))
    return Row(
        minute=draw(st.integers(FIRST, LAST - 1)),
        deployment=draw(st.sampled_from(["d1", "d2"])),
        way=way,
        plane="" if way is Way.HERE else draw(st.sampled_from(["b", "c"])),
        zones=draw(st.none() | st.just(()) | ZONES),
        allowed=draw(st.none() | ZONES),
        generation=draw(st.sampled_from(["1.1", "1.2"])),
        count=draw(st.integers(1, 50)),
    )


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[Record, ...]:
    """Records that cover the time whole, with some of it unproved."""
    cuts = draw(st.lists(st.integers(FIRST * MINUTE_MS, LAST * MINUTE_MS), max_size=5))
    moments = sorted({FIRST * MINUTE_MS, *cuts, LAST * MINUTE_MS})
    return tuple(
        Record(
            sequence=i,
            chain="c",
            from_ms=begin,
            to_ms=end,
            why=draw(st.sampled_from(["", "", "the disk was full"])),
            rows=tuple(draw(st.lists(rows(), max_size=3))),
        )
        for i, (begin, end) in enumerate(pairwise(moments), start=1)
    )


def judged(*planes: PlaneEvidence) -> Proof:
    return prove({"d1": ("eu",), "d2": ("de",)}, planes, FIRST * MINUTE_MS, LAST * MINUTE_MS)


def proven(proof: Proof) -> list[str]:
    return [one.deployment for one in proof.deployments if proof.is_proven(one)]


@modest
@given(ledgers())
def test_nothing_is_proven_where_a_minute_has_a_reason_not_to_be(
    ledger: tuple[Record, ...],
) -> None:
    proof = judged(PlaneEvidence(plane="a", records=ledger))
    assert (proof.gap_count > 0) == any(one.why for one in ledger)
    if proof.gap_count:
        assert proven(proof) == []


@modest
@given(ledgers(), st.data())
def test_without_one_of_the_records_its_time_is_not_proven(
    ledger: tuple[Record, ...], data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(ledger))
    left = tuple(replace(one, why="") for one in ledger if one is not lost)
    proof = judged(PlaneEvidence(plane="a", records=left))
    assert [(gap.from_ms, gap.to_ms) for gap in proof.gaps] == [(lost.from_ms, lost.to_ms)]
    assert proven(proof) == []


@modest
@given(ledgers())
def test_a_plane_that_told_nothing_proves_nothing(ledger: tuple[Record, ...]) -> None:
    sound = tuple(replace(one, why="") for one in ledger)
    told = PlaneEvidence(plane="a", records=sound)
    assert proven(judged(told, PlaneEvidence(plane="b"))) == []
    assert proven(judged(replace(told, fault="broken"))) == []
    joined = PlaneEvidence(plane="b", since_ms=LAST * MINUTE_MS)
    assert judged(told, joined).gap_count == 0, "it was not there yet"


@modest
@given(ledgers())
def test_every_request_is_counted_and_whoever_left_is_named(ledger: tuple[Record, ...]) -> None:
    proof = judged(PlaneEvidence(plane="a", records=ledger))
    told = [row for record in ledger for row in record.rows]
    for one in proof.deployments:
        own = [row for row in told if row.deployment == one.deployment]
        ruled = [row for row in own if row.allowed is not None]
        inside = [r for r in ruled if r.zones is not None and set(r.zones) & set(r.allowed or ())]
        outside = [row for row in ruled if row not in inside]
        assert one.inside == sum(row.count for row in inside if row.way is not Way.TAKEN)
        assert one.outside == sum(row.count for row in outside)
        assert sum(left.count for left in one.left) == one.outside
        if outside:
            assert one.deployment not in proven(proof)


@modest
@given(st.integers(1, 9), st.integers(0, 9), st.integers(FIRST, LAST - 1), st.integers(-3, 3))
def test_who_took_more_than_was_said_to_be_sent_contradicts(
    took: int, said: int, minute: int, apart: int
) -> None:
    a_row = Row(
        minute=minute,
        deployment="d1",
        way=Way.TAKEN,
        plane="a",
        zones=("eu",),
        allowed=("eu",),
        generation="1.1",
        count=took,
    )
    sent = [replace(a_row, way=Way.SENT, plane="b", minute=minute + apart, count=said or 1)]
    whole = Record(sequence=1, chain="c", from_ms=FIRST * MINUTE_MS, to_ms=LAST * MINUTE_MS)
    proof = judged(
        PlaneEvidence(plane="a", records=(replace(whole, rows=tuple(sent if said else ())),)),
        PlaneEvidence(plane="b", records=(replace(whole, rows=(a_row,)),)),
    )
    heard = said if abs(apart) <= 1 else 0
    (d1, _) = proof.deployments
    assert bool(d1.unproved) == (took > heard)
    assert ("d1" in proven(proof)) == (took <= heard)


@modest
@given(ledgers(), st.integers(FIRST + 1, LAST - 1))
def test_a_time_is_judged_the_same_in_halves(ledger: tuple[Record, ...], minute: int) -> None:
    planes = (PlaneEvidence(plane="a", records=ledger), PlaneEvidence(plane="b", fault="broken"))
    whole, middle = judged(*planes), minute * MINUTE_MS
    first = prove({"d1": ("eu",)}, planes, FIRST * MINUTE_MS, middle)
    both = merged(first, prove({"d2": ("de",), "d1": ("eu",)}, planes, middle, LAST * MINUTE_MS))
    one, other = whole.deployments[0], both.deployments[0]
    assert replace(other, left=(), unproved=()) == replace(one, left=(), unproved=())
    assert sorted(map(repr, other.left)) == sorted(map(repr, one.left))
    assert sorted(map(repr, other.unproved)) == sorted(map(repr, one.unproved))
    assert bool(both.gap_count) == bool(whole.gap_count)
    assert (both.since_ms, both.until_ms) == (whole.since_ms, whole.until_ms)


@modest
@given(ledgers())
def test_a_record_is_read_back_as_it_was(ledger: tuple[Record, ...]) -> None:
    previous: bytes | None = None
    for record in ledger:
        link = link_of(record, previous)
        assert record_of(link) == record
        previous = link.digest


@modest
@given(ledgers(), st.data())
def test_an_altered_or_removed_record_is_seen(
    ledger: tuple[Record, ...], data: st.DataObject
) -> None:
    links: list[Link] = []
    for record in ledger:
        links.append(link_of(record, links[-1].digest if links else None))
    place = data.draw(st.integers(0, len(links) - 1))
    other = replace(record_of(links[place]), why="altered")
    forged = replace(links[place], content=link_of(other, None).content)
    start = Verified(sequence=0, digest=None)
    assert not follow(links, start).fault
    if forged != links[place]:
        told = [*links[:place], forged, *links[place + 1 :]]
        assert follow(told, start).fault.startswith(f"record {place + 1} was altered")
    if place < len(links) - 1:
        assert follow([*links[:place], *links[place + 1 :]], start).fault


AT = FIRST * MINUTE_MS
SEEN = Seen(run_ms=AT - 600_000, failed=0, segment=4, inode=7)
NEWEST = Record(sequence=9, chain="c", from_ms=AT - 60_000, to_ms=AT, seen=SEEN)
SOUND = Look(
    at_ms=AT + 60_000,
    run_ms=SEEN.run_ms,
    failed=0,
    has_log=True,
    is_draining=False,
    segment=6,
    inode=8,
)


@modest
@given(
    st.integers(-RUN_SLACK_MS * 3, 700_000),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "a piece is missing"]),
    st.integers(0, 1_200),
)
def test_a_turn_covers_all_since_the_last_and_proves_only_what_is_sure(
    began_later: int, failed: int, has_log: bool, is_draining: bool, why: str, kinds: int
) -> None:
    look = replace(
        SOUND,
        run_ms=SEEN.run_ms + began_later,
        failed=failed,
        has_log=has_log,
        is_draining=is_draining,
        why=why,
    )
    row = Row(
        minute=FIRST,
        deployment="d1",
        way=Way.HERE,
        plane="",
        zones=("eu",),
        allowed=("eu",),
        generation="1",
        count=1,
    )
    counted = Counter({replace(row, deployment=f"d{i}"): i + 1 for i in range(kinds)})
    found = next_records(NEWEST, AT - 3_600_000, look, counted)
    assert [one.sequence for one in found] == list(range(10, 10 + len(found)))
    assert found[0].from_ms == NEWEST.to_ms
    assert found[-1].to_ms == look.at_ms
    assert all(a.to_ms == b.from_ms for a, b in pairwise(found))
    assert sum(r.count for one in found for r in one.rows) == sum(counted.values())
    assert found[-1].seen.segment == look.segment
    proven_ms = sum(one.to_ms - one.from_ms for one in found if not one.why)
    is_same = abs(began_later) <= RUN_SLACK_MS
    if why or not has_log or failed:
        assert proven_ms == 0
    elif is_same:
        assert proven_ms == 60_000
    else:
        assert proven_ms <= max(0, look.at_ms - look.run_ms)


@modest
@given(
    st.lists(st.tuples(st.integers(0, 60_000), st.sampled_from("xyz"), st.booleans()), max_size=9)
)
def test_what_a_gateway_sends_out_of_the_zones_is_never_rolled_up_as_inside(
    sent: list[tuple[int, str, bool]],
) -> None:
    zones = {"x": ("eu",), "y": ("us",)}  # `z` is not known
    tight = Terms(generation="1.1", own=("eu",), peers=zones, policies={"d1": ("eu",)})
    loose = replace(tight, generation="1.2", policies={"d1": ("eu", "us")})
    history = ((0, tight), (30_000, loose))
    lines = [
        f"S|{ms // 1000}.{ms % 1000:03}|{'http' if over_http else 'grpc'}/d1|{plane}|peer".encode()
        for ms, plane, over_http in sent
    ]
    rows, odd = roll_up(lines, history)
    assert odd == 0
    assert sum(rows.values()) == len(sent)
    out = sum(count for row, count in rows.items() if not row.is_inside)
    assert out == sum(
        plane == "z" or (plane == "y" and ms < 30_000 - TAKE_UP_MS) for ms, plane, _ in sent
    )
