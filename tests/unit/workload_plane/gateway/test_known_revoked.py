"""No word of revoked planes lets none of them in again."""

from dataclasses import replace
from pathlib import Path

from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.wire.desired import desired_from_proto, desired_to_proto
from workload_plane.gateway.known_revoked import REVOKED_FILE, KnownRevoked

UNSAID = DesiredState(plane="a", version=Version(epoch=1, generation=1))


def test_no_word_of_revoked_planes_lets_none_in_also_after_a_restart(tmp_path: Path) -> None:
    assert KnownRevoked(tmp_path).with_revoked(UNSAID).revoked_planes is None
    told = replace(UNSAID, revoked_planes=("edge-ams",))
    known = KnownRevoked(tmp_path)
    assert known.with_revoked(told) == told
    assert known.with_revoked(UNSAID) == told
    assert KnownRevoked(tmp_path).with_revoked(UNSAID) == told
    assert (tmp_path / REVOKED_FILE).stat().st_mode & 0o077 == 0
    none = replace(UNSAID, revoked_planes=())
    assert known.with_revoked(none) == none
    assert KnownRevoked(tmp_path).with_revoked(UNSAID) == none
    (tmp_path / REVOKED_FILE).write_bytes(b"{}")
    assert KnownRevoked(tmp_path).with_revoked(UNSAID).revoked_planes is None


def test_who_is_revoked_stays_so_where_there_is_no_room_for_it_and_is_kept_once_there_is(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "gateway"
    directory.write_bytes(b"")  # no folder: nothing can be written below it
    known, told = KnownRevoked(directory), replace(UNSAID, revoked_planes=("edge-ams",))
    assert known.with_revoked(told) == told
    assert known.with_revoked(UNSAID) == told, "what was told counts, kept or not"
    directory.unlink()
    directory.mkdir()
    assert known.with_revoked(told) == told
    assert KnownRevoked(directory).with_revoked(UNSAID) == told


def test_a_control_plane_of_before_says_nothing_of_revoked_planes(tmp_path: Path) -> None:
    """Its message has neither field: that is how one that knows of none would look, too."""
    known = KnownRevoked(tmp_path)
    known.with_revoked(replace(UNSAID, revoked_planes=("edge-ams",)))
    of_before = desired_from_proto(desired_to_proto(UNSAID))
    assert known.with_revoked(of_before).revoked_planes == ("edge-ams",)
