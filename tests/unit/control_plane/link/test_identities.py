"""Who is let in with which key, and who has to be told when that changes."""

from datetime import timedelta
from pathlib import Path

from control_plane.link.identities import REVOKED_TOLD_MAX, Identities
from skerry.fleet.joining import PlaneIdentity
from skerry.plumbing import metrics
from skerry.plumbing.certificate_requests import key_digest_of
from skerry.plumbing.certificates import Subject, create_authority, issue
from tests.fakes.clock import START, FakeClock


class Told:
    """Counts what identities tell others of."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self.woken = 0
        self.planes: list[str] = []
        self.identities = Identities(self.wake)
        self.identities.follow(self.planes.append)

    def wake(self) -> None:
        """Count that planes have to be told."""
        self.woken += 1


def a_certificate(folder: Path, name: str) -> bytes:
    """Return the certificate of a key of its own."""
    create_authority(folder / "authority", "test", START)
    return issue(
        folder / "authority", folder, Subject(name=name, dns_names=(name,)), START
    ).cert.read_bytes()


def test_only_the_key_that_joined_is_let_in(tmp_path: Path) -> None:
    own, other = a_certificate(tmp_path, "own"), a_certificate(tmp_path, "other")
    identities = Told().identities
    assert identities.refusal("fra", other) == ""  # made by hand, and never revoked
    identities.put(PlaneIdentity(plane="fra", key_digest=key_digest_of(own), joined_at=START))
    assert identities.refusal("fra", own) == ""
    assert "another key" in identities.refusal("fra", other)
    assert "another key" in identities.refusal("fra", b"no certificate")
    assert identities.refusal("aws", other) == ""


def test_planes_are_told_when_one_is_revoked_or_back_and_not_when_one_renews() -> None:
    told = Told()
    told.identities.load([PlaneIdentity(plane="aws", revoked_at=START)])
    assert (told.identities.revoked, told.woken) == (("aws",), 1)
    joined = PlaneIdentity(plane="fra", key_digest=bytes(32), joined_at=START)
    told.identities.put(joined)
    told.identities.put(
        PlaneIdentity(
            plane="fra",
            key_digest=bytes(32),
            joined_at=START,
            expires_at=START + timedelta(days=1),
        )
    )
    assert told.woken == 1
    told.identities.put(PlaneIdentity(plane="fra", revoked_at=START))
    assert (told.identities.revoked, told.woken) == (("aws", "fra"), 2)
    told.identities.put(joined)
    assert (told.identities.revoked, told.woken) == (("aws",), 3)
    assert told.planes == ["fra"] * 4


def test_a_revoked_plane_counts_until_its_certificate_has_ended() -> None:
    told, clock = Told(), FakeClock(START)
    told.identities.show(clock)
    day = timedelta(days=1)
    told.identities.load(
        [
            PlaneIdentity(plane="joined", revoked_at=START, expires_at=START + 30 * day),
            PlaneIdentity(plane="made-by-hand", revoked_at=START),
            PlaneIdentity(plane="let-in", joined_at=START, expires_at=START + 30 * day),
        ]
    )
    for passed, counted in ((29, 2), (2, 1), (334, 1), (2, 0)):
        clock.advance(passed * day.total_seconds())
        assert f"skerry_revoked_certificates {counted}.0".encode() in metrics.render()
    assert b"skerry_revoked_planes 2.0" in metrics.render()
    assert told.identities.revoked == ("joined", "made-by-hand"), "told all the same"


def test_of_too_many_planes_are_told_of_those_whose_certificates_end_last() -> None:
    told = Told()
    names = [f"p{number:04}" for number in range(REVOKED_TOLD_MAX + 2)]
    # The names come in the order opposite to that in which they were put out.
    told.identities.load(
        PlaneIdentity(plane=name, revoked_at=START - timedelta(minutes=number))
        for number, name in enumerate(names)
    )
    assert told.identities.revoked == tuple(names[:REVOKED_TOLD_MAX])
    assert b"skerry_revoked_planes 1002.0" in metrics.render()
    late = PlaneIdentity(plane="zz", revoked_at=START + timedelta(minutes=1))
    told.identities.put(late)
    assert told.identities.revoked == (*names[: REVOKED_TOLD_MAX - 1], "zz")
    short = PlaneIdentity(
        plane="zzz", revoked_at=START + timedelta(hours=1), expires_at=START + timedelta(days=30)
    )
    told.identities.put(short)
    assert "zzz" not in told.identities.revoked, "put out last, and its certificate ends first"
