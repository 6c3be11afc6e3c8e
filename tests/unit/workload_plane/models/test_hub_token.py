"""The hub's token by reference: read when it is wanted, kept, read anew once it was refused."""

import asyncio
from pathlib import Path

import pytest

from skerry.plumbing.errors import Denied
from workload_plane.models.hub_token import HubToken
from workload_plane.models.limits import CacheSettings

CANARY = "hf_canaryofthehub000002"


async def test_a_variable_that_is_named_is_read_and_taken_from_whoever_is_started_later(
    tmp_path: Path,
) -> None:
    environment = {"HUB": CANARY, "PATH": "/bin"}
    token = HubToken(CacheSettings(directory=tmp_path, hub_token="env:HUB"), environment)
    assert environment == {"PATH": "/bin"}
    assert await token.read() == CANARY


async def test_a_token_is_read_once_and_again_when_the_hub_refused_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    file.chmod(0o600)
    token = HubToken(CacheSettings(directory=tmp_path, hub_token=f"file:{file}"), {})
    assert set(await asyncio.gather(token.read(), token.read())) == {"old"}
    file.write_text("new")
    assert await token.read() == "old"
    token.forget()
    assert await token.read() == "new"


async def test_a_token_that_is_not_there_is_no_end_of_the_plane_and_may_come_later(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    token = HubToken(CacheSettings(directory=tmp_path, hub_token=f"file:{file}"), {})
    with pytest.raises(Denied, match=r"model_cache\.hub_token"):
        await token.read()
    file.write_text(CANARY)
    with pytest.raises(Denied, match="chmod 600") as refused:
        await token.read()
    assert CANARY not in str(refused.value)
    file.chmod(0o600)
    assert await token.read() == CANARY


async def test_without_a_reference_it_is_the_file_or_the_variable_of_the_hubs_own_library(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{CANARY}\n")
    environment = {"HF_TOKEN": "of the environment"}
    told = CacheSettings(directory=tmp_path, hub_token_file=file)
    assert await HubToken(told, environment).read() == CANARY
    untold = CacheSettings(directory=tmp_path)
    assert await HubToken(untold, environment).read() == "of the environment"
    assert await HubToken(untold, {}).read() == ""
