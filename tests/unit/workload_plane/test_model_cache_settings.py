"""The settings of the base-model cache: safe without a word, and wrong ones named by field."""

from pathlib import Path

import pytest

from skerry.plumbing.errors import InvalidInput
from tests.unit.workload_plane.test_settings import GOOD
from workload_plane.models.limits import CacheSettings
from workload_plane.settings import parse_settings


def test_without_a_word_only_encrypted_public_sources_and_no_pickles() -> None:
    found = parse_settings(GOOD).model_cache
    assert found == CacheSettings(directory=Path(str(GOOD["data_dir"])) / "models")
    assert found.schemes == ("hf", "s3", "gs", "https")
    assert not found.allow_private_addresses
    assert not found.allow_pickle


def test_every_setting_is_read() -> None:
    given = {
        "directory": "/models",
        "bytes_max": 10,
        "free_bytes_min": 0,
        "model_bytes_max": 5,
        "downloads_max": 3,
        "schemes": ["hf", "http"],
        "allow_private_addresses": True,
        "allow_pickle": True,
        "hub_endpoint": "https://hub.internal",
        "hub_token_file": "/run/token",
    }
    assert parse_settings({**GOOD, "model_cache": given}).model_cache == CacheSettings(
        directory=Path("/models"),
        bytes_max=10,
        free_bytes_min=0,
        model_bytes_max=5,
        downloads_max=3,
        schemes=("hf", "http"),
        allow_private_addresses=True,
        allow_pickle=True,
        hub_endpoint="https://hub.internal",
        hub_token_file=Path("/run/token"),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("directory", "relative"),
        ("hub_token_file", "relative"),
        ("hub_token", "hf_canary"),
        ("hub_token", "file:relative"),
        ("bytes_max", 0),
        ("bytes_max", "10 GB"),
        ("free_bytes_min", -1),
        ("model_bytes_max", True),
        ("downloads_max", 0),
        ("schemes", ["ftp"]),
        ("schemes", "hf"),
        ("allow_pickle", "no"),
        ("hub_endpoint", "ftp://x"),
        ("size", 1),
    ],
)
def test_what_is_wrong_is_told_by_its_field(key: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_settings({**GOOD, "model_cache": {key: value}})
    assert [fault.path for fault in caught.value.violations] == [f"model_cache.{key}"]


def test_the_hubs_token_is_told_by_where_it_is_and_once() -> None:
    told = {"hub_token": "env:HUB"}
    assert parse_settings({**GOOD, "model_cache": told}).model_cache.hub_token == "env:HUB"
    for wrong in ({"hub_token": "hf_canary"}, {**told, "hub_token_file": "/run/token"}):
        with pytest.raises(InvalidInput, match=r"model_cache\.hub_token") as refused:
            parse_settings({**GOOD, "model_cache": wrong})
        assert "canary" not in str(refused.value)
