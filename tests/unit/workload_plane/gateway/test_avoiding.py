"""Whom a stream was lost with is told from the gateway's answer to the pickers of its next try."""

from workload_plane.gateway.avoiding import AVOIDED_MAX, hosts_of, read_avoided, render_avoided

TIMING = 'plane;desc="a", replica;desc="r2", queue;dur=1'


def test_an_answer_names_all_who_were_tried_and_who_gave_it() -> None:
    assert hosts_of("r1,r2", TIMING, "a") == (("a", "r1"), ("a", "r2"))
    peers = 'plane;desc="b", replica;desc="r9", queue;dur=1'
    assert hosts_of("r1, b", peers, "a") == (("a", "r1"), ("a", "b"), ("b", "r9"))


def test_what_is_not_the_gateways_own_words_names_nobody() -> None:
    assert hosts_of("", "", "a") == ()
    assert hosts_of("-", "total;dur=4", "a") == ()
    assert hosts_of("10.0.0.1:80, A B", "plane", "a") == ()


def test_what_is_told_is_read_back_and_bounded() -> None:
    hosts = tuple(("a", f"r{number}") for number in range(AVOIDED_MAX + 3))
    assert read_avoided(render_avoided(hosts).encode()) == hosts[3:]
    assert read_avoided(b"") == ()
    assert read_avoided(b"a/r1,,nonsense, b/r2 ,x/y/z") == (("a", "r1"), ("b", "r2"))
    assert read_avoided(b"a/r1," * 10_000) == ()
