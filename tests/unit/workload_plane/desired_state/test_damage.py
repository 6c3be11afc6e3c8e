"""Every truncation and every flipped bit of a real state: the state before it, or a loud refusal.

Exhaustive over a state of some kB, at the format and at the file; never an empty start.
"""

import os
import resource
from pathlib import Path

import pytest

from skerry.fleet.desired import DesiredState, PeerPlane
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.node import NodeCordon
from skerry.plumbing.errors import Corrupt
from skerry.wire.desired import desired_to_proto
from tests.unit.workload_plane.desired_state.test_accept import grants
from workload_plane.desired_state.file import DesiredStateFile, UnreadableDesired, seen_path
from workload_plane.desired_state.format import decode, decode_seen, encode, version_in

DEPLOYMENTS = 10
BEFORE, NEWEST = Version(epoch=3, generation=40), Version(epoch=3, generation=41)


def a_state(version: Version, deployments: int) -> DesiredState:
    return DesiredState(
        plane="here",
        version=version,
        assignments=tuple(grants(f"chat-{index}", index) for index in range(deployments)),
        peers=(PeerPlane(plane="there", cloud="c", region="r", peer_address="10.1.2.3:15443"),),
        required_features=("envelopes.v1",),
        node_cordons=(NodeCordon(node="cpu-1", draining=True),),
    )


def a_payload(version: Version, deployments: int) -> bytes:
    return desired_to_proto(a_state(version, deployments)).SerializeToString(deterministic=True)


WHOLE = encode(a_payload(NEWEST, DEPLOYMENTS), NEWEST)
HEADER_BYTES = WHOLE.index(b"\n") + 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two copies on the disk: a real one of some kB, and a small one before it."""
    path = tmp_path / "desired" / "desired.skerry"
    file = DesiredStateFile(path)
    file.prepare()
    file.store(a_payload(BEFORE, 1))
    file.store(a_payload(NEWEST, DEPLOYMENTS))
    assert path.read_bytes() == WHOLE
    return path


def flipped(index: int, bit: int) -> bytes:
    return WHOLE[:index] + bytes([WHOLE[index] ^ (1 << bit)]) + WHOLE[index + 1 :]


def check_previous_is_loaded(path: Path, seen: Version) -> None:
    loaded = DesiredStateFile(path).load()
    assert loaded is not None, "an empty start"
    assert loaded.stored.state.version == BEFORE
    assert loaded.seen == seen
    assert loaded.fault


def test_it_is_a_state_of_some_kilobytes() -> None:
    assert 2_000 < len(WHOLE) < 10_000


def test_no_flipped_bit_is_read_as_a_state() -> None:
    for index in range(len(WHOLE)):
        for bit in range(8):
            with pytest.raises(Corrupt):
                decode(flipped(index, bit))


def test_no_truncation_is_read_as_a_state() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(Corrupt):
            decode(WHOLE[:length])


def test_a_header_nested_without_end_is_damage() -> None:
    data = b"[" * 1_000 + b"\n"
    for read in (decode, decode_seen):
        with pytest.raises(Corrupt):
            read(data)
    assert version_in(data) == NEVER


def test_no_flipped_bit_changes_which_version_was_seen() -> None:
    # Too high, and the plane would refuse everything; too low, and it would take older ones.
    for index in range(len(WHOLE)):
        for bit in range(8) if index < HEADER_BYTES else [index % 8]:
            assert version_in(flipped(index, bit)) == NEWEST, (index, bit)


def test_every_flipped_bit_of_the_newest_copy_loads_the_one_before(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        for index in range(len(WHOLE)):
            # All bits of the header, and of the content one of each byte: all of those are the
            # checksum's, above.
            for bit in range(8) if index < HEADER_BYTES else [index % 8]:
                os.pwrite(descriptor, bytes([WHOLE[index] ^ (1 << bit)]), index)
                check_previous_is_loaded(path, NEWEST)
            os.pwrite(descriptor, WHOLE[index : index + 1], index)
    finally:
        os.close(descriptor)
    loaded = DesiredStateFile(path).load()
    assert loaded is not None
    assert (loaded.stored.state.version, loaded.fault) == (NEWEST, None)


def test_every_truncation_of_the_newest_copy_loads_the_one_before(path: Path) -> None:
    for length in reversed(range(len(WHOLE))):
        os.truncate(path, length)
        check_previous_is_loaded(path, NEWEST)


def test_a_torn_header_tells_its_version_to_nobody_where_it_is_not_kept_alone(path: Path) -> None:
    """As an earlier release left its disk."""
    seen_path(path).unlink()
    for length in reversed(range(len(WHOLE))):
        os.truncate(path, length)
        # Of a header that is torn itself nothing can be told; before that, all of it.
        legible = length >= HEADER_BYTES or version_in(WHOLE[:length]) == NEWEST
        check_previous_is_loaded(path, NEWEST if legible else BEFORE)


def test_no_damage_of_the_version_kept_alone_is_read_as_another_one(path: Path) -> None:
    alone = seen_path(path)
    data = alone.read_bytes()
    damaged = [data[:length] for length in range(len(data))]
    damaged += [
        data[:index] + bytes([data[index] ^ (1 << bit)]) + data[index + 1 :]
        for index in range(len(data))
        for bit in range(8)
    ]
    for bad in damaged:
        with pytest.raises(Corrupt):
            decode_seen(bad)
    alone.write_bytes(damaged[-1])
    loaded = DesiredStateFile(path).load()
    assert loaded is not None
    assert (loaded.seen, loaded.fault) == (NEWEST, None), "the newest copy names it as well"


def test_a_disk_without_either_copy_is_not_that_of_a_plane_that_was_never_told(path: Path) -> None:
    path.unlink()
    path.with_name("desired.skerry.prev").unlink()
    with pytest.raises(UnreadableDesired, match="is not there") as caught:
        DesiredStateFile(path).load()
    assert caught.value.seen == NEWEST


def test_every_damage_to_both_copies_is_refused_loudly(path: Path) -> None:
    previous = path.with_name("desired.skerry.prev")
    small = previous.read_bytes()
    for index in range(len(small)):
        path.write_bytes(flipped(index, index % 8))
        previous.write_bytes(small[:index] + bytes([small[index] ^ 0x10]) + small[index + 1 :])
        with pytest.raises(UnreadableDesired) as caught:
            DesiredStateFile(path).load()
        assert caught.value.seen == NEWEST
    for length in range(len(small)):
        path.write_bytes(WHOLE[:length])
        previous.write_bytes(small[:length])
        with pytest.raises(UnreadableDesired):
            DesiredStateFile(path).load()


def test_a_newest_copy_that_vanished_is_told(path: Path) -> None:
    path.unlink()
    loaded = DesiredStateFile(path).load()
    assert loaded is not None
    assert loaded.stored.state.version == BEFORE
    assert "is not there" in str(loaded.fault)


def test_a_header_of_another_version_than_the_content_is_damage() -> None:
    for version in (NEVER, Version(epoch=3, generation=91), Version(epoch=9, generation=41)):
        data = encode(a_payload(NEWEST, 1), version)
        with pytest.raises(Corrupt, match="another version"):
            decode(data)
        assert version_in(data) == NEWEST


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_disk_that_fills_up_keeps_the_old(path: Path, share: float) -> None:
    file = DesiredStateFile(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(len(WHOLE) * share), hard))
    try:
        with pytest.raises(OSError):
            file.store(a_payload(Version(epoch=3, generation=42), DEPLOYMENTS))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    loaded = file.load()
    assert loaded is not None
    assert (loaded.stored.state, loaded.fault) == (a_state(NEWEST, DEPLOYMENTS), None)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "desired.skerry",
        "desired.skerry.prev",
        "desired.skerry.seen",
    ]
    file.store(a_payload(Version(epoch=3, generation=42), DEPLOYMENTS))
    again = file.load()
    assert again is not None
    assert again.stored.state.version.generation == 42
