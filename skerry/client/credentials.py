"""What a client shows of itself to the operator API, and where it takes that from.

In plaintext a credential goes nowhere but to this machine's loopback: from elsewhere by TLS, or
through a tunnel.
"""

import re
from pathlib import Path

from skerry.fleet.api_key import CHARACTERS_MAX, key_name_in
from skerry.plumbing.errors import InvalidInput, NotFound

TOKEN_BYTES_MAX = 6_144  # what the control plane looks at
_LOOPBACK = re.compile(r"localhost|\[::1\]|127(\.[0-9]{1,3}){3}")


def read_token(path: Path) -> str:
    """Return the credential in a file that its owner alone can read; the errors say what to do."""
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            data = file.read(TOKEN_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(
            f"there is no token file {path}; an admin makes a token with `skerry token create`,"
            " or give SKERRY_TOKEN_FILE or SKERRY_TOKEN"
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"the token file {path} cannot be read: {error.strerror}; it is its owner's, so ask"
            " for a token of your own: `skerry token create`"
        ) from None
    if mode & 0o077:
        raise InvalidInput(
            f"the token file {path} is open to others than its owner; `chmod 600 {path}`, and make"
            " another token if somebody may have read it"
        )
    return check_token(data.decode("ascii", "replace").strip(), str(path))


def check_token(text: str, source: str) -> str:
    """Return a credential when it can be one; InvalidInput names its source alone."""
    if not 0 < len(text) <= TOKEN_BYTES_MAX or not all("!" <= c <= "~" for c in text):
        raise InvalidInput(
            f"{source} holds no token: it must be one line of at most {TOKEN_BYTES_MAX} printable"
            " ASCII characters"
        )
    return text


def read_api_key(path: Path) -> str:
    """Return the API key in a file; NotFound or InvalidInput say what to do instead."""
    try:
        text = path.read_bytes()[: CHARACTERS_MAX + 2].decode("ascii").strip()
    except FileNotFoundError:
        raise NotFound(
            f"there is no API key in {path}; an admin makes one with `skerry key create NAME"
            f" --deployments '*' --out {path}`, or give SKERRY_API_KEY"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(f"the API key in {path} cannot be read; give SKERRY_API_KEY") from None
    if key_name_in(text) is None:
        raise InvalidInput(f"{path} holds no API key, sk-NAME_SECRET; give SKERRY_API_KEY")
    return text


def check_private(endpoints: tuple[str, ...]) -> None:
    """Refuse to show a credential to an endpoint that others could listen on the way to."""
    for endpoint in endpoints:
        if endpoint.startswith("unix:"):  # of this host; who may open it its folder says
            continue
        host = endpoint.rpartition(":")[0]
        if not _LOOPBACK.fullmatch(host):
            raise InvalidInput(
                f"a token is not sent to {endpoint}: the way there is plaintext; name the"
                " authority of the control plane's certificate as caFile, or make a tunnel,"
                f" `ssh -L 7070:127.0.0.1:PORT HOST`, and give --endpoint 127.0.0.1:7070"
            )
