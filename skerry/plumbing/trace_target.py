"""Where traces go: one OTLP/HTTP collector, and which share of requests is traced.

A value alone, so that settings and pure modules may hold it; `tracing` sends.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

TRACES_PATH = "/v1/traces"  # where OTLP/HTTP takes them unless told otherwise
SAMPLE_DEFAULT = 0.01
_PORT_DEFAULT = 4318
_ENDPOINT_CHARACTERS_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTarget:
    """A collector's `http://HOST[:PORT][/PATH]`, and the share of requests, 0..1.

    Plaintext: a collector beside the process takes TLS and credentials upon itself. Raises
    ValueError for anything else.
    """

    endpoint: str
    sample: float = SAMPLE_DEFAULT

    def __post_init__(self) -> None:
        if len(self.endpoint) > _ENDPOINT_CHARACTERS_MAX:
            raise ValueError(f"endpoint is longer than {_ENDPOINT_CHARACTERS_MAX} characters")
        if not self._is_plain():
            raise ValueError(
                f"endpoint must be http://HOST:PORT{TRACES_PATH}, not a URL of"
                " another kind; a collector on this host can go on with https"
            )
        if not 0.0 <= self.sample <= 1.0:
            raise ValueError(f"sample must be a share, 0..1, not {self.sample}")

    @property
    def host(self) -> str:
        """Return the collector's name or address."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def port(self) -> int:
        """Return the collector's TCP port."""
        return urlsplit(self.endpoint).port or _PORT_DEFAULT

    @property
    def url(self) -> str:
        """Return the whole URL that spans are posted to."""
        told = urlsplit(self.endpoint)
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = told.path if told.path not in ("", "/") else TRACES_PATH
        return f"http://{host}:{self.port}{path}"

    def _is_plain(self) -> bool:
        try:
            told = urlsplit(self.endpoint)
            has_port = told.port != 0
        except ValueError:  # as of half an address in brackets
            return False
        odd = told.query or told.fragment or "@" in told.netloc
        return told.scheme == "http" and bool(told.hostname) and not odd and has_port
