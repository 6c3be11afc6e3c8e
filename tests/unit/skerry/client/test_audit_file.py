"""Exports of the change log: whole lines, gone on with after any cut, verified by nobody's word."""

import errno
import json
import os
from pathlib import Path

import pytest

from skerry.client import audit_file
from skerry.client.audit_file import open_export, verify_export
from skerry.fleet.change_chain import CONTENT_FIELDS, Link, Noted, content_of, digest_of
from skerry.plumbing.errors import Conflict, Corrupt, InvalidInput


def chained(count: int, first: int = 1, said: str = "für Köln", before: bytes = b"") -> list[Link]:
    links = []
    previous = before or None
    for number in range(first, first + count):
        told = dict.fromkeys(CONTENT_FIELDS, "told") | {"sequence": number, "reason": said}
        told["after"] = {"count": number, "share": 0.1, "large": 1e22, "whole": 2.0}
        content = content_of([told[name] for name in CONTENT_FIELDS])
        digest = digest_of(content, previous)
        links.append(Link(sequence=number, content=content, previous=previous, digest=digest))
        previous = digest
    return links


LOG = chained(6)


def exported(path: Path, links: list[Link]) -> bytes:
    with open_export(path) as export:
        export.append([link for link in links if link.sequence > export.read.found.sequence])
        export.finish()
    return path.read_bytes()


def noted(link: Link) -> Noted:
    assert link.digest is not None
    return Noted(sequence=link.sequence, digest=link.digest)


def test_an_export_is_verified_without_a_control_plane(tmp_path: Path) -> None:
    exported(tmp_path / "log", LOG)
    read = verify_export(tmp_path / "log", noted(LOG[-1]))
    assert (read.found.fault, read.found.checked, read.newest) == ("", 6, noted(LOG[-1]))


def test_a_record_is_a_line_with_the_fields_of_a_change(tmp_path: Path) -> None:
    lines = exported(tmp_path / "log", LOG).splitlines()
    told = json.loads(lines[1])
    assert set(told) == {*CONTENT_FIELDS, "previous_digest", "digest"}
    assert (told["sequence"], told["previous_digest"], told["reason"]) == (1, None, "für Köln")
    assert json.loads(lines[2])["previous_digest"] == told["digest"]


def test_a_longer_log_goes_on_in_the_same_file(tmp_path: Path) -> None:
    exported(tmp_path / "grown", LOG[:2])
    exported(tmp_path / "grown", LOG[:2])
    assert exported(tmp_path / "grown", LOG) == exported(tmp_path / "at once", LOG)


def test_cut_anywhere_it_is_found_and_gone_on_with(tmp_path: Path) -> None:
    whole = exported(tmp_path / "log", LOG[:3])
    for size in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(Corrupt, match="no end after change"):
            verify_export(tmp_path / "cut")
        assert exported(tmp_path / "cut", LOG[:3]) == whole


def test_lines_that_are_gone_are_found(tmp_path: Path) -> None:
    lines = exported(tmp_path / "log", LOG).splitlines(keepends=True)
    for gone in range(1, len(lines) - 1):
        (tmp_path / "other").write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
        assert verify_export(tmp_path / "other").found.fault


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"reason":"f\\u00fcr K\\u00f6ln"', b'"reason":"other"'),
        (b'"share":0.1', b'"share":0.10000001'),
        (b'"whole":2.0', b'"whole":2'),
        (b'"sequence":4', b'"sequence":true'),
        (b'"sequence":4', b'"sequence":NaN'),
        (b'"actor":"told"', b'"author":"told"'),
        (b'"actor":"told"', b'"actor":"told","more":1'),
        (b'"digest":"', b'"digest":"x'),
        (b'{"sequence":4', b"[[[["),
        (b'{"sequence":4', b"\xff"),
    ],
)
def test_an_altered_line_is_found(old: bytes, new: bytes, tmp_path: Path) -> None:
    lines = exported(tmp_path / "log", LOG).splitlines(keepends=True)
    assert old in lines[4]
    lines[4] = lines[4].replace(old, new)
    (tmp_path / "log").write_bytes(b"".join(lines))
    found = verify_export(tmp_path / "log").found
    assert found.sequence == 4
    assert found.fault
    with pytest.raises(Corrupt, match="export into another file"), open_export(tmp_path / "log"):
        pass


def test_an_altered_end_is_found_and_nothing_may_follow_it(tmp_path: Path) -> None:
    whole = exported(tmp_path / "log", LOG)
    lines = whole.splitlines(keepends=True)
    (tmp_path / "log").write_bytes(whole.replace(b'"records":6', b'"records":7'))
    assert "end of the file" in verify_export(tmp_path / "log").found.fault
    (tmp_path / "log").write_bytes(whole + lines[-1])
    assert "line 9" in verify_export(tmp_path / "log").found.fault


def test_a_file_written_anew_is_found_by_what_was_noted(tmp_path: Path) -> None:
    exported(tmp_path / "anew", chained(6, said="never said"))
    assert verify_export(tmp_path / "anew").found.fault == ""
    assert "was replaced" in verify_export(tmp_path / "anew", noted(LOG[3])).found.fault
    exported(tmp_path / "short", LOG[:4])
    assert "ends at change 4" in verify_export(tmp_path / "short", noted(LOG[5])).found.fault


def test_a_file_that_begins_later_has_nothing_to_compare_before(tmp_path: Path) -> None:
    exported(tmp_path / "later", LOG[3:])
    assert verify_export(tmp_path / "later", noted(LOG[2])).found.fault == ""
    with pytest.raises(Corrupt, match="begins after change 3"):
        verify_export(tmp_path / "later", noted(LOG[1]))


def test_another_log_is_not_mixed_in(tmp_path: Path) -> None:
    before = exported(tmp_path / "log", LOG[:3])
    with open_export(tmp_path / "log") as export:
        with pytest.raises(Corrupt, match="older backup"):
            export.append(chained(3, first=4, said="other", before=b"x" * 32))
        with pytest.raises(Corrupt, match="change 4 is missing"):
            export.append(LOG[4:])
        export.finish()
    assert (tmp_path / "log").read_bytes() == before


def test_what_is_no_record_is_not_written(tmp_path: Path) -> None:
    link = Link(sequence=1, content="[2]", previous=None, digest=digest_of("[2]", None))
    with open_export(tmp_path / "log") as export, pytest.raises(Corrupt, match="no record"):
        export.append([link])
    assert not (tmp_path / "log").exists()


def test_on_a_full_disk_the_file_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    whole = exported(tmp_path / "log", LOG[:3])
    with monkeypatch.context() as patch, open_export(tmp_path / "log") as export:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            export.append(LOG[3:])
        assert export.read.found.sequence == 3
    with pytest.raises(Corrupt, match="no end after change 3"):
        verify_export(tmp_path / "log")
    assert exported(tmp_path / "log", LOG[:3]) == whole


def test_one_export_at_a_time(tmp_path: Path) -> None:
    with open_export(tmp_path / "log") as export:
        export.append(LOG)
        with pytest.raises(Conflict, match="another export"), open_export(tmp_path / "log"):
            pass


def test_a_log_without_changes_leaves_no_file(tmp_path: Path) -> None:
    with open_export(tmp_path / "log") as export:
        export.append([])
        export.finish()
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("content", [b"{}\n", b"hello", b'{"skerry_audit":2,"after":0}\n', b"\xff"])
def test_what_is_no_export_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(Corrupt, match="no export"):
        verify_export(tmp_path / "other")
    with pytest.raises(Corrupt, match="no export"), open_export(tmp_path / "other"):
        pass
    assert (tmp_path / "other").read_bytes() == content


def test_only_its_owner_reads_it_and_it_is_a_file(tmp_path: Path) -> None:
    exported(tmp_path / "log", LOG)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidInput, match="is no file"), open_export(Path(os.devnull)):
        pass


def test_the_header_is_what_is_looked_for(tmp_path: Path) -> None:
    told = json.loads(exported(tmp_path / "log", LOG).splitlines()[0])
    assert told == {audit_file.MARK: audit_file.FORMAT, "after": 0}
