"""The file is whole or the one before it is; damage never reads as emptiness."""

import asyncio
from pathlib import Path

import pytest

from skerry.api.plane.v1.plane_service_pb2 import Desired
from skerry.fleet.generation import NEVER, Version
from skerry.plumbing.errors import Corrupt
from skerry.wire.desired import desired_to_proto, proto_digest
from tests.unit.workload_plane.converge.test_plan import wants
from tests.unit.workload_plane.desired_state.test_accept import grants, offer
from workload_plane.desired_state.accept import Refuse
from workload_plane.desired_state.file import DesiredStateFile, UnreadableDesired
from workload_plane.desired_state.format import decode, encode, version_in
from workload_plane.desired_state.holder import DesiredHolder


def payload(generation: int, target: int = 1) -> bytes:
    state = offer(1, generation, grants("demo", target))
    return desired_to_proto(state).SerializeToString()


@pytest.fixture
def file(tmp_path: Path) -> DesiredStateFile:
    file = DesiredStateFile(tmp_path / "desired" / "desired.skerry")
    file.prepare()
    return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desired" / "desired.skerry"


def test_a_plane_that_was_never_told_anything_has_no_state(file: DesiredStateFile) -> None:
    assert file.load() is None


def test_what_was_stored_is_loaded(file: DesiredStateFile) -> None:
    file.store(payload(1))
    file.store(payload(2))
    loaded = file.load()
    assert loaded is not None
    assert (loaded.stored.payload, loaded.fault) == (payload(2), None)
    assert loaded.seen == Version(epoch=1, generation=2)


def test_every_truncation_and_every_flipped_byte_is_noticed() -> None:
    whole = encode(payload(1), Version(epoch=1, generation=1))
    for length in range(len(whole)):
        with pytest.raises(Corrupt):
            decode(whole[:length])
    wanted = decode(whole)
    for index in range(len(whole)):
        flipped = whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :]
        try:
            assert decode(flipped) == wanted  # a digit of the header that decides nothing
        except Corrupt:
            continue


def test_a_torn_newest_copy_falls_back_and_remembers_its_version(
    file: DesiredStateFile, path: Path
) -> None:
    file.store(payload(1))
    file.store(payload(2))
    path.write_bytes(path.read_bytes()[:-1])
    loaded = file.load()
    assert loaded is not None
    assert loaded.stored.state.version == Version(epoch=1, generation=1)
    assert loaded.seen == Version(epoch=1, generation=2)
    assert "torn" in str(loaded.fault)


def test_a_damaged_newest_copy_does_not_push_out_the_good_one_before(
    file: DesiredStateFile, path: Path
) -> None:
    file.store(payload(1))
    file.store(payload(2))
    path.write_bytes(b"")
    file.store(payload(3))
    path.write_bytes(b"")
    loaded = file.load()
    assert loaded is not None
    assert loaded.stored.state.version.generation == 1


def test_two_damaged_copies_are_an_error_and_not_an_empty_state(
    file: DesiredStateFile, path: Path
) -> None:
    file.store(payload(1))
    file.store(payload(2))
    path.write_bytes(path.read_bytes()[:-1])
    path.with_name("desired.skerry.prev").write_bytes(b"\0" * 300)
    with pytest.raises(UnreadableDesired) as caught:
        file.load()
    assert caught.value.seen == Version(epoch=1, generation=2)


def test_a_directory_in_the_files_place_is_damage(file: DesiredStateFile, path: Path) -> None:
    path.mkdir()
    with pytest.raises(UnreadableDesired):
        file.load()


def test_fields_of_a_later_release_stay_on_disk(file: DesiredStateFile) -> None:
    message = desired_to_proto(wants(1))
    # Field 999, length-delimited: what this release does not know.
    later = Desired.FromString(message.SerializeToString() + b"\xba\x3e\x05later")
    later.digest = proto_digest(later)
    file.store(later.SerializeToString())
    loaded = file.load()
    assert loaded is not None
    assert b"later" in loaded.stored.payload
    assert loaded.stored.state == wants(1)


def test_a_later_format_is_not_guessed_at() -> None:
    data = encode(payload(1), NEVER).replace(b'"format": 1', b'"format": 2')
    with pytest.raises(Corrupt, match="format 2"):
        decode(data)


def test_a_header_that_names_no_version_names_never() -> None:
    assert version_in(b"") == NEVER
    assert version_in(b"{}\n") == NEVER


async def test_the_holder_takes_only_what_is_accepted_and_durable(
    file: DesiredStateFile, path: Path
) -> None:
    changed = asyncio.Event()
    holder = DesiredHolder("here", file, changed)
    holder.load()
    assert holder.version == NEVER
    taken = await holder.offer(payload(2), frozenset)
    assert holder.state == taken == offer(1, 2, grants("demo", 1))
    assert changed.is_set()
    assert isinstance(await holder.offer(payload(1), frozenset), Refuse)
    assert isinstance(await holder.offer(b"\xff\xff", frozenset), Refuse)
    again = DesiredHolder("here", file, changed)
    again.load()
    assert again.state == taken


async def test_a_full_disk_is_a_refusal_and_not_an_acceptance(
    file: DesiredStateFile, path: Path
) -> None:
    holder = DesiredHolder("here", file, asyncio.Event())
    await holder.offer(payload(1), frozenset)
    path.parent.rename(path.parent.with_name("away"))
    refusal = await holder.offer(payload(2), frozenset)
    assert isinstance(refusal, Refuse)
    assert "durable" in refusal.reason
    assert holder.version == Version(epoch=1, generation=1)


async def test_a_wrong_digest_is_refused(file: DesiredStateFile) -> None:
    message = desired_to_proto(wants(1))
    message.assignments[0].envelopes[0].target = 0
    message.assignments[0].envelopes[0].ceiling = 9
    refusal = await DesiredHolder("here", file, asyncio.Event()).offer(
        message.SerializeToString(), frozenset
    )
    assert isinstance(refusal, Refuse)
    assert "digest" in refusal.reason
