"""What a base model's URI says, taken apart: PURE, for the sources and the cache.

A URI comes from outside: whatever could carry a secret into a log, or mean two things, is refused.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from skerry.plumbing.errors import InvalidInput

HUB, S3, GCS, HTTPS, HTTP = "hf", "s3", "gs", "https", "http"
REMOTE_SCHEMES = (HUB, S3, GCS, HTTPS, HTTP)
URI_CHARACTERS_MAX = 2_048

_DIGEST = re.compile(r"sha256=([0-9a-f]{64})")
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HUB_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_SECRETS = re.compile(r"(?<=://)[^/@]*@|\?.*")
_PRINTABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUri:
    """One remote base model: `container` is ORG/NAME, a bucket or HOST[:PORT].

    `path` lies inside it, "" for all of it; one that ends in "/" means everything below it.
    `sha256` is what the URI's end asks of the content, "" when it asks nothing.
    """

    text: str
    scheme: str
    container: str
    path: str = ""
    revision: str = ""
    sha256: str = ""


def scheme_of(uri: str) -> str:
    """Return the URI's scheme, "" when it has none."""
    head, mark, _ = uri.partition("://")
    return head if mark else ""


def is_remote(uri: str) -> bool:
    """Say whether the base model has to be fetched from elsewhere."""
    return scheme_of(uri) in REMOTE_SCHEMES


def parse_uri(uri: str) -> ModelUri:
    """Return the parts of a remote base model's URI; raises InvalidInput with what is wrong."""
    if len(uri.partition("#")[0]) > URI_CHARACTERS_MAX or not _PRINTABLE.fullmatch(uri):
        raise InvalidInput(
            f"base model {uri[:80]!r} must have at most {URI_CHARACTERS_MAX} printable characters"
            " without spaces"
        )
    text, mark, fragment = uri.partition("#")
    shown = _SECRETS.sub("", text)
    digest = _DIGEST.fullmatch(fragment)
    if mark and digest is None:
        raise InvalidInput(f"base model {shown!r} must end in #sha256=64 HEX DIGITS or without a #")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"base model {shown!r} is no URI: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            f"base model {shown!r} must not hold credentials: it is shown to everybody; give them"
            " to the plane"
        )
    if "?" in text:
        raise InvalidInput(
            f"base model {shown!r} must have no query, which may be a signature; use s3:// or"
            " gs:// with the plane's own credentials"
        )
    sha256 = digest.group(1) if digest else ""
    rest = text.partition("://")[2]
    if parts.scheme == HUB:
        return _hub(text, rest, sha256)
    if parts.scheme in (S3, GCS):
        return _bucket(text, parts.scheme, rest, sha256)
    if parts.scheme in (HTTPS, HTTP):
        host = (parts.hostname or "") + (f":{port}" if port is not None else "")
        name = unquote(parts.path.rpartition("/")[2])
        if not parts.hostname or not name:
            raise InvalidInput(f"base model {text!r} must name one file: https://HOST/PATH/NAME")
        return ModelUri(
            text=text, scheme=parts.scheme, container=host, path=parts.path, sha256=sha256
        )
    raise InvalidInput(f"base model {text!r} must start with one of {', '.join(REMOTE_SCHEMES)}")


def _hub(text: str, rest: str, sha256: str) -> ModelUri:
    shape = f"base model {text!r} must look like hf://ORG/NAME[@REVISION][/FILE]"
    organisation, _, rest = rest.partition("/")
    name, slash, path = rest.partition("/")
    name, mark, revision = name.partition("@")
    if not _HUB_NAME.fullmatch(organisation) or not _HUB_NAME.fullmatch(name):
        raise InvalidInput(shape)
    if mark and not _HUB_REVISION.fullmatch(revision):
        raise InvalidInput(f"{shape}; a revision is a commit, a tag or a branch without '/'")
    if slash and not path:
        raise InvalidInput(shape)
    return ModelUri(
        text=text,
        scheme=HUB,
        container=f"{organisation}/{name}",
        path=unquote(path),
        revision=revision,
        sha256=sha256,
    )


def _bucket(text: str, scheme: str, rest: str, sha256: str) -> ModelUri:
    bucket, _, path = rest.partition("/")
    # The bucket's name may become part of a host's name: nothing but a label may pass.
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or not path or path.startswith("/"):
        raise InvalidInput(
            f"base model {text!r} must look like {scheme}://BUCKET/FILE, or {scheme}://BUCKET/DIR/"
            " for everything below DIR"
        )
    return ModelUri(text=text, scheme=scheme, container=bucket, path=unquote(path), sha256=sha256)
