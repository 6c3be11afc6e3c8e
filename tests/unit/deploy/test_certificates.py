"""deploy/certificates.py issues what `skerry up` issues for its own fleet."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from deploy.certificates import main, subject_of
from skerry.cli.supervisor.layout import DataDirectory, extend_layout
from skerry.cli.supervisor.pki import ensure_pki
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME


def names(certificate: Path) -> tuple[list[str], list[str]]:
    """Return the URIs and the DNS names of a certificate."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    found = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = found.get_values_for_type(x509.UniformResourceIdentifier)
    return uris, found.get_values_for_type(x509.DNSName)


def test_parties_are_named_as_in_a_fleet_of_one_machine(tmp_path: Path) -> None:
    ports = iter(range(20_000, 20_100))
    layout = extend_layout(None, 1, "simulated", lambda: next(ports))
    pki = ensure_pki(DataDirectory(tmp_path), layout, datetime(2026, 1, 1, tzinfo=UTC))
    (plane,) = pki.planes
    for party, name, files in (
        ("plane", plane, pki.planes[plane]),
        ("control-plane", "control-plane", pki.control_plane),
    ):
        subject = subject_of(party, name, naming=pki.naming)
        uris, dns = names(files.cert)
        assert list(subject.uris) == uris
        assert set(subject.dns_names) == set(dns) - {"localhost"}


def test_only_a_control_plane_can_pose_as_one() -> None:
    assert CONTROL_PLANE_SERVER_NAME in subject_of("control-plane", "one").dns_names
    assert CONTROL_PLANE_SERVER_NAME not in subject_of("plane", "one").dns_names


def test_a_repeat_changes_nothing_and_another_name_issues_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, out = tmp_path / "authority", tmp_path / "here"
    command = ["plane", "here", "--authority", str(authority), "--out", str(out)]
    assert main(command) == 0
    told = capsys.readouterr().out
    first = (out / "here.pem").read_bytes()
    assert str(out / "here.pem") in told
    assert "to be renewed from" in told
    assert (authority / "ca.key").stat().st_mode & 0o077 == 0
    assert (out / "here.key").stat().st_mode & 0o077 == 0
    assert main(command) == 0
    assert (out / "here.pem").read_bytes() == first
    assert main([*command, "--address", "10.0.0.10", "--dns", "gpu-1.example.net"]) == 0
    assert "gpu-1.example.net" in names(out / "here.pem")[1]


@pytest.mark.parametrize(
    "wrong", [["Not A Name"], ["here", "--address", "nowhere"], ["here", "--project", "A B"]]
)
def test_what_cannot_be_named_is_refused(
    tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plane", *wrong, "--authority", str(tmp_path / "a"), "--out", str(tmp_path / "o")]
    assert main(command) == 2
    assert "certificates.py: " in capsys.readouterr().err
    assert not (tmp_path / "o" / "here.pem").exists()
