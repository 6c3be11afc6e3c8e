"""API keys: what their text must look like, and what terms there can be."""

import pytest

from skerry.fleet.api_key import (
    CHARACTERS_MAX,
    DEPLOYMENTS_MAX,
    EVERY_DEPLOYMENT,
    REQUESTS_PER_MINUTE_MAX,
    ApiKey,
    KeyTerms,
    key_name_in,
    key_text,
)

SECRET = "A" * 43


def test_a_keys_text_has_its_name_and_nothing_else_is_a_key() -> None:
    assert key_name_in(key_text("team-a", SECRET)) == "team-a"
    for text in ("", "sk-", f"sk-_{SECRET}", f"skt_team_{SECRET}", f"sk-Team_{SECRET}"):
        assert key_name_in(text) is None
    assert key_name_in(f"sk-{'a' * CHARACTERS_MAX}_{SECRET}") is None
    assert key_name_in(f"sk-team_{SECRET}\n") is None


@pytest.mark.parametrize(
    ("deployments", "rpm", "at_once"),
    [
        ((), 0, 0),
        ((EVERY_DEPLOYMENT, "demo"), 0, 0),
        (("../demo",), 0, 0),
        (tuple(f"d{n}" for n in range(DEPLOYMENTS_MAX + 1)), 0, 0),
        (("demo",), -1, 0),
        (("demo",), REQUESTS_PER_MINUTE_MAX + 1, 0),
        (("demo",), 0, -1),
    ],
)
def test_terms_that_cannot_be_are_refused(
    deployments: tuple[str, ...], rpm: int, at_once: int
) -> None:
    with pytest.raises(ValueError, match=r"key|requests|deployment"):
        KeyTerms(deployments=deployments, requests_per_minute=rpm, concurrent_requests=at_once)


def test_a_digest_of_another_length_is_none() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ApiKey(name="a", digest=bytes(31), terms=KeyTerms(deployments=("demo",)))
