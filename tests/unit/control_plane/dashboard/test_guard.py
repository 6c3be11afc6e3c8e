"""What a browser may send to the dashboard, and what every answer forbids it."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from control_plane.dashboard.guard import HEADERS, is_same, origin_fault, refusal_of

HERE = "127.0.0.1:7480"
OUTSIDE = "https://skerry.example"


def headers(*told: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(told))


@pytest.mark.parametrize("host", [HERE, "localhost", "[::1]:7480"])
def test_a_page_is_read_at_any_name_of_this_machine(host: str) -> None:
    assert refusal_of("GET", headers(("Host", host)), None) == ""


@pytest.mark.parametrize("told", [(), ("evil.example",), (HERE, HERE), ("skerry.example",)])
def test_a_rebound_name_reads_nothing(told: tuple[str, ...]) -> None:
    assert "another machine" in refusal_of("GET", headers(*(("Host", h) for h in told)), None)


@pytest.mark.parametrize(
    "told",
    [
        (),
        (("Origin", "null"),),
        (("Origin", "http://evil.example"),),
        (("Origin", "http://127.0.0.1:9999"),),
        (("Origin", f"https://{HERE}"),),
        (("Origin", f"http://{HERE}"), ("Origin", "http://evil.example")),
        (("Origin", f"http://{HERE}"), ("Sec-Fetch-Site", "same-site")),
        (("Origin", f"http://{HERE}"), ("Sec-Fetch-Site", "cross-site")),
    ],
)
def test_a_form_of_another_origin_goes_nowhere(told: tuple[tuple[str, str], ...]) -> None:
    assert refusal_of("POST", headers(("Host", HERE), *told), None)


def test_a_form_of_our_own_goes_through() -> None:
    own = headers(("Host", HERE), ("Origin", f"http://{HERE}"), ("Sec-Fetch-Site", "same-origin"))
    assert refusal_of("POST", own, None) == ""


def test_behind_a_proxy_the_origin_that_is_told_is_ours_too() -> None:
    through = headers(("Host", "skerry.example"), ("Origin", OUTSIDE))
    assert refusal_of("POST", through, OUTSIDE) == ""
    plain = headers(("Host", "skerry.example"), ("Origin", "http://skerry.example"))
    assert refusal_of("POST", plain, OUTSIDE)


@pytest.mark.parametrize(
    "origin", ["http://skerry.example", "https://", "https://a/b", "skerry.example", "https://a/"]
)
def test_an_origin_is_https_and_nothing_more(origin: str) -> None:
    assert "https://HOST" in origin_fault(origin)
    assert not origin_fault(OUTSIDE)


def test_nothing_written_into_a_page_runs() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_secrets_are_compared_whole() -> None:
    assert is_same("abc", "abc")
    assert not is_same("", "abc")
    assert not is_same("abé", "abc")
