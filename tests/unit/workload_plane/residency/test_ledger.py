"""The plane's ledger: what was written is there after a restart, what was altered is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.fleet.residency import Record, Seen, record_of
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.ids import SystemIds
from workload_plane.residency import ledger as module
from workload_plane.residency.ledger import Ledger

NOW = 1_900_000_000_000


def a_ledger(path: Path) -> Ledger:
    ledger = Ledger(path, SystemIds(SystemClock()))
    ledger.open(NOW)
    return ledger


def more(ledger: Ledger, count: int) -> None:
    for _ in range(count):
        newest = ledger.newest
        record = Record(
            sequence=newest.sequence + 1,
            chain=newest.chain,
            from_ms=newest.to_ms,
            to_ms=newest.to_ms + 60_000,
            seen=Seen(run_ms=5, segment=newest.seen.segment + 2),
        )
        ledger.append((record,), NOW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "residency" / "ledger.jsonl"


def test_it_is_there_after_a_restart_and_goes_on(path: Path) -> None:
    first = a_ledger(path)
    more(first, 3)
    again = a_ledger(path)
    assert (again.newest, again.began_ms) == (first.newest, first.began_ms)
    assert [link.sequence for link in again.after(2)] == [3, 4]
    more(again, 1)
    assert a_ledger(path).newest.sequence == 5


def test_a_line_that_was_being_written_when_the_machine_died_is_cut_off(path: Path) -> None:
    more(a_ledger(path), 2)
    with path.open("ab") as file:
        file.write(b'{"sequence":4,"con')
    again = a_ledger(path)
    assert (again.newest.sequence, again.newest.why) == (3, "")
    more(again, 1)
    assert a_ledger(path).newest.sequence == 4


def altered(lines: list[bytes]) -> list[bytes]:
    told = json.loads(lines[2])
    told["content"] = told["content"].replace('""', '"x"', 1)
    return [*lines[:2], json.dumps(told).encode(), *lines[3:]]


def removed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], *lines[3:]]


def garbled(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"what?", *lines[3:]]


def emptied(lines: list[bytes]) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (altered, "record 3 was altered"),
        (removed, "record 3 is missing"),
        (garbled, "line 3 of its file is no record"),
        (emptied, "the ledger is empty"),
    ],
)
def test_a_tampered_file_is_named_and_nothing_since_is_proven_by_it(
    path: Path, tamper: Callable[[list[bytes]], list[bytes]], named: str
) -> None:
    ledger = a_ledger(path)
    more(ledger, 4)
    whole_ms = record_of(ledger.after(0)[1]).to_ms
    chain = ledger.newest.chain
    path.write_bytes(b"".join(line + b"\n" for line in tamper(path.read_bytes().splitlines())))
    again = Ledger(path, SystemIds(SystemClock()))
    again.open(NOW + 10**7)
    first = again.newest
    assert first.chain != chain
    assert named in first.why
    if tamper is not emptied:
        assert (first.from_ms, first.to_ms) == (whole_ms, NOW + 10**7)
    assert path.with_suffix(".broken").exists()


def test_what_is_tampered_with_under_its_hands_is_found_before_the_next_record(path: Path) -> None:
    ledger = a_ledger(path)
    more(ledger, 3)
    seen = ledger.newest.seen
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:2]) + b"\n")
    with pytest.raises(Corrupt, match="anew"):
        more(ledger, 1)
    assert "removed or replaced" in ledger.newest.why
    assert ledger.newest.seen == seen, "what the gateway was is known still"
    more(ledger, 1)


def test_a_file_that_is_lost_is_named(path: Path) -> None:
    ledger = a_ledger(path)
    more(ledger, 2)
    path.unlink()
    ledger.check(NOW + 10**6)
    assert "the file is gone" in ledger.newest.why


def test_it_outgrows_no_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEDGER_BYTES_MAX", 8_000)
    ledger = a_ledger(path)
    more(ledger, 100)
    assert path.stat().st_size <= 8_000
    again = a_ledger(path)
    assert again.newest == ledger.newest
    assert again.after(0)[0].sequence > 1
