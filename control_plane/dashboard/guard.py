"""Which requests a browser may make of the dashboard, and what every answer forbids it. Pure.

`site.py` asks before anything else of a request is looked at.
"""

import hmac
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy

from control_plane.api.http_guard import is_loopback

# Nothing from elsewhere and nothing written into a page: an injected script or style does not run.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # Not `no-referrer`: with it browsers send `Origin: null` with a form of our own.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
)
_SAFE = frozenset({"GET", "HEAD"})


def refusal_of(method: str, headers: CIMultiDictProxy[str], origin: str | None) -> str:
    """Return why a request goes no further, empty when it may.

    `origin` is where browsers see the dashboard when a proxy stands before it.
    """
    hosts = headers.getall("Host", [])
    if len(hosts) != 1 or not (_is_here(hosts[0]) or hosts[0] == host_of(origin)):
        return "the Host header names another machine than this dashboard is for"
    if method in _SAFE:
        return ""
    # Browsers send it with every form; what does not is no page of ours.
    own = {f"http://{hosts[0]}"} if _is_here(hosts[0]) else set[str]()
    if origin is not None:
        own.add(origin)
    told = headers.getall("Origin", [])
    if len(told) != 1 or told[0] not in own:
        return "pages of other origins may not send anything here"
    if any(site != "same-origin" for site in headers.getall("Sec-Fetch-Site", [])):
        return "pages of other sites may not send anything here"
    return ""


def is_same(told: str, known: str) -> bool:
    """Say whether two secrets are the same, in a time that tells nothing."""
    return hmac.compare_digest(told.encode(), known.encode())


def host_of(origin: str | None) -> str:
    """Return the `host[:port]` of an origin, empty without one."""
    return "" if origin is None else urlsplit(origin).netloc


def origin_fault(origin: str) -> str:
    """Return what is wrong with an origin told in the settings, empty when nothing is."""
    parts = urlsplit(origin)
    if parts.scheme != "https" or not parts.netloc or origin != f"https://{parts.netloc}":
        return "must be https://HOST or https://HOST:PORT: what browsers see before the proxy"
    return ""


def _is_here(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    return is_loopback(name if colon and port.isdecimal() else host)
