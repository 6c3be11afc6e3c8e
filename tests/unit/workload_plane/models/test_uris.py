"""A remote base model's URI means one thing, and can't carry a secret into a log."""

import pytest

from skerry.plumbing.errors import InvalidInput
from workload_plane.models.uris import ModelUri, is_remote, parse_uri

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "container", "path", "revision"),
    [
        ("hf://org/name", "org/name", "", ""),
        ("hf://org/name@v1.0", "org/name", "", "v1.0"),
        ("hf://Org/Na.me_2@main/sub/q4.gguf", "Org/Na.me_2", "sub/q4.gguf", "main"),
        ("hf://org/name/sub/", "org/name", "sub/", ""),
        ("s3://my-bucket/dir/", "my-bucket", "dir/", ""),
        ("gs://my.bucket/dir/a%20b.gguf", "my.bucket", "dir/a b.gguf", ""),
        ("https://example.org/a/b.gguf", "example.org", "/a/b.gguf", ""),
        ("http://[::1]:8080/b.gguf", "::1:8080", "/b.gguf", ""),
    ],
)
def test_the_parts_of_a_uri(text: str, container: str, path: str, revision: str) -> None:
    scheme = text.partition("://")[0]
    wanted = ModelUri(text=text, scheme=scheme, container=container, path=path, revision=revision)
    assert is_remote(text)
    assert parse_uri(text) == wanted
    with_digest = parse_uri(f"{text}#sha256={DIGEST}")
    assert (with_digest.text, with_digest.sha256) == (text, DIGEST)


@pytest.mark.parametrize(
    "text",
    [
        "hf://org",
        "hf://org/",
        "hf://org/name/",
        "hf://org/name@",
        "hf://org/name@../x",
        "hf://-org/name",
        "hf://user:pass@org/name",
        "s3://Bucket/x",
        "s3://b/x",
        "s3://bucket",
        "s3://bucket//x",
        "s3://a..b/x",
        "s3://169.254.169.254:80/x",
        "https://example.org",
        "https://example.org/dir/",
        "https://user:pass@example.org/x.gguf",
        "https://example.org/x.gguf?token=secret",
        "https://user:pass@example.org/x.gguf?token=secret#x",
        "https://user:pass@example.org:99999/x.gguf",
        "https://example.org/x.gguf#sha256=short",
        "https://example.org/x y.gguf",
        "https://example.org/x\n.gguf",
        "https://[::1/x.gguf",
        "gopher://x/y",
        "",
        "https://example.org/" + "x" * 3_000,
    ],
)
def test_whatever_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_uri(text)
    assert "secret" not in str(caught.value)
    assert ":pass" not in str(caught.value)


@pytest.mark.parametrize("text", ["builtin://x", "file:///x", "simulated://x", "/x", "x"])
def test_what_is_here_already_is_not_remote(text: str) -> None:
    assert not is_remote(text)
