"""What a client shows of itself: from whom it takes it, and to whom alone it shows it."""

from pathlib import Path

import pytest

from skerry.client.connections import metadata_of
from skerry.client.context import Context, load_context, render_context
from skerry.client.credentials import check_private
from skerry.plumbing.errors import InvalidInput, NotFound

TOKEN = "skt_ci_" + "s" * 43
HERE = "127.0.0.1:1"


def written(folder: Path, text: str = TOKEN, mode: int = 0o600) -> Path:
    path = folder / "operator.token"
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path


def config(folder: Path, token: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(render_context(Context(endpoints=(HERE,), token_file=token)))
    return path


def shown(context: Context) -> str:
    return str(dict(metadata_of(context, "user:ana", "")).get("authorization", ""))


def test_the_context_files_token_is_shown_and_no_name_beside_it(tmp_path: Path) -> None:
    context = load_context(config(tmp_path, written(tmp_path)), None, {})
    metadata = metadata_of(context, "user:ana", "why")
    assert metadata == (("authorization", f"Bearer {TOKEN}"), ("x-skerry-reason-bin", b"why"))
    assert TOKEN not in repr(context)


def test_without_a_token_a_client_says_who_it_is() -> None:
    assert metadata_of(Context(endpoints=(HERE,)), "user:ana", "") == (
        ("x-skerry-actor", "user:ana"),
    )


def test_variables_come_before_the_file(tmp_path: Path) -> None:
    path = config(tmp_path, written(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    environment = {"SKERRY_TOKEN_FILE": str(written(other, "skt_other"))}
    assert shown(load_context(path, None, environment)) == "Bearer skt_other"
    environment["SKERRY_TOKEN"] = "skt_told"
    assert shown(load_context(path, None, environment)) == "Bearer skt_told"


def test_one_fleets_token_is_not_shown_to_another(tmp_path: Path) -> None:
    path = config(tmp_path, written(tmp_path))
    assert shown(load_context(path, HERE, {}))
    assert not shown(load_context(path, "127.0.0.1:2", {}))
    assert not shown(load_context(path, f"{HERE},127.0.0.1:2", {}))


@pytest.mark.parametrize("endpoint", ["10.0.0.1:1", "example.net:1", "127.evil.net:1", "[::]:1"])
def test_a_token_is_not_sent_over_a_line_that_others_can_hear(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="tunnel") as refused:
        metadata_of(Context(endpoints=(HERE, endpoint), token=TOKEN), "user:ana", "")
    assert TOKEN not in str(refused.value)


def test_a_token_may_go_to_a_socket_of_this_host() -> None:
    check_private(("unix:/tmp/skerry-a/operator.sock",))


def test_by_tls_a_token_may_go_anywhere(tmp_path: Path) -> None:
    context = Context(endpoints=("10.0.0.1:1",), token=TOKEN, ca_file=tmp_path / "ca.pem")
    assert dict(metadata_of(context, "user:ana", ""))["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    context = Context(endpoints=(HERE,), token_file=written(tmp_path, mode=mode))
    with pytest.raises(InvalidInput, match="chmod 600"):
        metadata_of(context, "user:ana", "")


@pytest.mark.parametrize("text", ["", "a b", "x" * 9_000, "\u00fc"])
def test_what_is_no_token_is_not_sent(tmp_path: Path, text: str) -> None:
    context = Context(endpoints=(HERE,), token_file=written(tmp_path, text))
    with pytest.raises(InvalidInput, match="holds no token"):
        metadata_of(context, "user:ana", "")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    context = Context(endpoints=(HERE,), token_file=tmp_path / "none")
    with pytest.raises(NotFound, match="token create"):
        metadata_of(context, "user:ana", "")
