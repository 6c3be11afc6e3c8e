"""Failed attempts: counted by peer, forgiven with time, and in a table that is bounded."""

from pathlib import Path

import pytest

from control_plane.api.access import attempts
from control_plane.api.access.attempts import FAILURES_AT_ONCE, Attempts, peer_host
from control_plane.api.access.authenticator import read_bootstrap
from skerry.fleet.service_token import digest_of_token, is_digest_of, name_in, token_text
from skerry.plumbing.errors import InvalidInput
from tests.unit.control_plane.api.access.credentials import BOOTSTRAP, SECRET, written


def test_a_peer_may_fail_some_times_and_then_once_a_second() -> None:
    told = Attempts()
    was_last = [told.failed("a", 0.0) for _ in range(FAILURES_AT_ONCE + 5)]
    assert was_last.index(True) == FAILURES_AT_ONCE - 1
    assert was_last.count(True) == 1
    assert told.is_over("a", 0.0)
    assert not told.is_over("b", 0.0)
    assert not told.is_over("a", 1.0)
    told.failed("a", 1.0)
    assert told.is_over("a", 1.5)
    assert not told.is_over("a", 1_000.0)


def test_the_peer_that_failed_the_longest_ago_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "PEERS_MAX", 2)
    told = Attempts()
    for _ in range(FAILURES_AT_ONCE):
        for peer in ("a", "b"):
            told.failed(peer, 0.0)
    told.failed("a", 0.0)
    told.failed("c", 0.0)
    assert told.is_over("a", 0.0)
    assert not told.is_over("b", 0.0)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:1.2.3.4:567", "1.2.3.4"),
        ("ipv6:%5B::1%5D:567", "%5B::1%5D"),
        ("unix:/tmp/x", "unix:/tmp/x"),
    ],
)
def test_a_peer_is_its_address_whatever_port_it_calls_from(peer: str, host: str) -> None:
    assert peer_host(peer) == host


@pytest.mark.parametrize(
    "text",
    [
        *("", "skt_", "skt_ci", f"skt_CI_{SECRET}", f"skt_ci_{SECRET}x", f"skt_ci_{SECRET[1:]}"),
        *(f"skt_{'a' * 64}_{SECRET}", f" skt_ci_{SECRET}", f"skt_ci_{SECRET}\n"),
        f"skt_c\u0131_{SECRET}",
    ],
)
def test_what_has_not_the_form_of_a_token_is_none(text: str) -> None:
    assert name_in(text) is None


def test_a_digest_is_of_the_whole_token() -> None:
    text = token_text("ci", SECRET)
    assert name_in(text) == "ci"
    assert is_digest_of(text, digest_of_token(text))
    assert not is_digest_of(token_text("co", SECRET), digest_of_token(text))


def test_the_bootstrap_token_is_read_from_a_file_that_its_owner_alone_reads(
    tmp_path: Path,
) -> None:
    assert read_bootstrap(written(tmp_path)) == digest_of_token(BOOTSTRAP)
    for mode, text, says in (
        (0o644, BOOTSTRAP, "chmod 600"),
        (0o600, "secret", "must hold"),
        (0o600, token_text("ci", SECRET), "must hold"),
        (0o600, "x" * 5_000, "must hold"),
    ):
        with pytest.raises(InvalidInput, match=says) as refused:
            read_bootstrap(written(tmp_path, text, mode))
        assert SECRET not in str(refused.value)
    with pytest.raises(InvalidInput, match="cannot read"):
        read_bootstrap(tmp_path / "none")
