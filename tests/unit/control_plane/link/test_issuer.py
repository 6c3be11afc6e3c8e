"""An issuer whose authority is sealed: planes get certificates, or are told that they get none."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.link.enrolment import Issuer
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.party_uris import Naming
from skerry.plumbing.certificate_requests import check_request, ensure_key, request_of
from skerry.plumbing.certificates import create_authority
from skerry.plumbing.errors import Infeasible
from skerry.plumbing.sealing import PLAIN, Keyring, SealingKey

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SEALED = Keyring((SealingKey(b"k" * 32),))


def an_issuer(authority: Path, keyring: Keyring) -> Issuer:
    naming = Naming(project=DEFAULT_PROJECT)
    return Issuer(authority=authority, naming=naming, seconds=60.0, keyring=keyring)


def test_planes_get_certificates_of_a_sealed_authority_and_without_its_key_a_plain_refusal(
    tmp_path: Path,
) -> None:
    create_authority(tmp_path / "authority", "root", NOW, SEALED)
    ensure_key(tmp_path / "plane.key")
    request = check_request(request_of(tmp_path / "plane.key", "a"))
    assert an_issuer(tmp_path / "authority", SEALED).issue("a", request, NOW).certificate
    for keyring in (PLAIN, Keyring((SealingKey(b"x" * 32),))):
        with pytest.raises(Infeasible, match="its log says"):
            an_issuer(tmp_path / "authority", keyring).issue("a", request, NOW)
    (tmp_path / "authority" / "ca.key").write_bytes(b"skerry-sealed-1 " + b"0" * 16 + b" AA\n")
    with pytest.raises(Infeasible, match="its log says"):
        an_issuer(tmp_path / "authority", SEALED).issue("a", request, NOW)


def test_a_control_plane_that_cannot_issue_says_so_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Log:
        def error(self, event: str, **fields: object) -> None:
            told.append(f"{event} {fields}")

    monkeypatch.setattr("control_plane.link.enrolment._log", Log())
    create_authority(tmp_path, "root", NOW, SEALED)
    an_issuer(tmp_path, SEALED).check()
    assert told == []
    an_issuer(tmp_path, PLAIN).check()
    assert "authority.unreadable" in told[0]
    assert "sealing_keys" in told[0]
