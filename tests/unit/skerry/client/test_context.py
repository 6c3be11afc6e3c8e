"""Which fleet the client talks to: the nearest name wins, and a wrong file says where."""

from pathlib import Path

import pytest

from skerry.client.context import Context, load_context, render_context
from skerry.plumbing.errors import InvalidInput, NotFound


def write(path: Path, endpoint: str) -> Path:
    """Write a context file with that endpoint."""
    path.write_text(render_context(Context(endpoints=(endpoint,), data_directory=path.parent)))
    return path


def test_endpoint_option_beats_everything(tmp_path: Path) -> None:
    config = write(tmp_path / "config.yaml", "127.0.0.1:1")
    environment = {"SKERRY_ENDPOINT": "127.0.0.1:2", "SKERRY_CONFIG": str(config)}
    assert load_context(config, "127.0.0.1:3", environment).endpoints == ("127.0.0.1:3",)


def test_endpoint_variable_beats_the_config_option(tmp_path: Path) -> None:
    config = write(tmp_path / "config.yaml", "127.0.0.1:1")
    context = load_context(config, None, {"SKERRY_ENDPOINT": "127.0.0.1:2"})
    assert context.endpoints == ("127.0.0.1:2",)


def test_config_option_beats_its_variable(tmp_path: Path) -> None:
    near, far = write(tmp_path / "a.yaml", "127.0.0.1:1"), write(tmp_path / "b.yaml", "h:2")
    context = load_context(near, None, {"SKERRY_CONFIG": str(far)})
    assert context.endpoints == ("127.0.0.1:1",)
    assert context.data_directory == tmp_path


def test_without_a_name_the_default_data_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / ".skerry").mkdir()
    write(tmp_path / ".skerry" / "config.yaml", "127.0.0.1:1")
    assert load_context(None, None, {"HOME": str(tmp_path)}).endpoints == ("127.0.0.1:1",)


def test_several_endpoints_are_kept_in_order() -> None:
    assert load_context(None, "a:1, b:2", {"HOME": "/none"}).endpoints == ("a:1", "b:2")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="skerry up"):
        load_context(tmp_path / "none.yaml", None, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("endpint: a:1\n", ":1:1: endpint: unknown field"),
        ("endpoint: nowhere\n", "'nowhere' is not HOST:PORT"),
        ("endpoint: h:99999\n", "is not HOST:PORT"),
        ("- a\n", "must be a mapping"),
        ("project: p\n", "must be HOST:PORT"),
        ("endpoint: h:1\ndataDirectory: 5\n", "dataDirectory: must be a path"),
        ("endpoint: h:1\ncaFile: [a]\n", "caFile: must be a path"),
        ("endpoint: h:1\nserverName: 1\ncaFile: a\n", "serverName: must be text"),
        ("endpoint: h:1\nserverName: cp\n", "serverName: needs a caFile"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load_context(path, None, {})
    assert said in refused.value.message


def test_a_directory_is_no_context_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must be a readable file"):
        load_context(tmp_path, None, {})


def test_a_written_context_reads_back(tmp_path: Path) -> None:
    context = Context(
        endpoints=("a:1", "b:2"),
        data_directory=tmp_path / "it's here",
        token_file=tmp_path / "token",
        ca_file=tmp_path / "ca.pem",
        server_name="control-plane.example.com",
    )
    path = tmp_path / "config.yaml"
    path.write_text(render_context(context))
    assert load_context(path, None, {}) == context


def test_an_authority_vouches_for_the_endpoints_beside_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("endpoint: a:1\ncaFile: ca.pem\nserverName: cp\n")
    same, other = load_context(path, "a:1", {}), load_context(path, "b:1", {})
    assert (same.ca_file, same.server_name) == (tmp_path / "ca.pem", "cp")
    assert (other.ca_file, other.server_name) == (None, "")


def test_the_variables_name_an_authority_for_any_endpoint(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("endpoint: a:1\ncaFile: ca.pem\nserverName: cp\n")
    told = {"SKERRY_CA_FILE": "/mine.pem", "SKERRY_SERVER_NAME": "mine"}
    for endpoint in (None, "b:1"):
        context = load_context(path, endpoint, told)
        assert (context.ca_file, context.server_name) == (Path("/mine.pem"), "mine")
    assert load_context(path, None, {"SKERRY_CA_FILE": "/mine.pem"}).server_name == ""
