"""Two projects at one gateway: of the other's models a key sees nothing, and finds none."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from skerry.fleet.api_key import ApiKey, key_text
from tests.integration.gateway_world import World, a_fleet
from tests.integration.test_gateway_keys import (
    CONTROL,
    a_key,
    asked,
    bearer,
    give_keys,
    grpc_code,
)

pytestmark = pytest.mark.integration

# `m1` is deployment d1 of project red, `m2` is d2 of project blue.
RED, BLUE = key_text("red-all", "R" * 43), key_text("blue-one", "B" * 43)
OTHER, FLEETS = key_text("red-other", "O" * 43), key_text("fleets-all", "F" * 43)


def of(key: ApiKey, project: str, *, every: bool = False) -> ApiKey:
    return replace(key, project=project, every_of_project=every)


def told_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers but for those that differ between any two answers."""
    return {k.lower(): v for k, v in headers.items() if k.lower() not in ("date", "x-request-id")}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_fleet(tmp_path) as fleet:
        one = fleet.planes["a"]
        red, blue = one.topology.models
        models = (replace(red, project="red"), replace(blue, project="blue"))
        one.topology = replace(one.topology, models=models)
        await give_keys(
            fleet,
            "a",
            # What it names is for planes of earlier releases.
            of(a_key(RED, "no-deployment"), "red", every=True),
            of(a_key(BLUE, "d2"), "blue"),
            of(a_key(OTHER, "no-deployment"), "red"),
            of(a_key(FLEETS, "no-deployment"), "default", every=True),
        )
        yield fleet


async def test_a_key_opens_its_own_projects_models_and_finds_no_others(world: World) -> None:
    for text, own, other in ((RED, "m1", "m2"), (BLUE, "m2", "m1")):
        async with asked(world, text, own) as response:
            assert response.status == 200
        said, heads = [], []
        for model in (other, "m9"):
            async with asked(world, text, model) as response:
                heads.append(told_headers(response.headers))
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (404, "model_not_found"), error
                assert response.headers["x-skerry-plane"] == "a"
                said.append(error["message"].replace(model, "MODEL"))
        assert said[0] == said[1], "as if it were not there"
        assert heads[0] == heads[1]
    for text in (OTHER, FLEETS):
        async with asked(world, text, "m2") as response:
            assert response.status == 404
    # Within a project it is told that there is something else.
    async with asked(world, OTHER, "m1") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (
            403,
            "model_not_allowed",
        )


async def test_a_key_is_shown_its_own_projects_models(world: World) -> None:
    url = f"{world.planes['a'].url}/v1/models"
    for text, own, other in ((RED, "m1", "m2"), (BLUE, "m2", "m1"), (FLEETS, "", "m1")):
        async with world.client.get(url, headers=bearer(text)) as response:
            listed = (await response.json())["data"]
            assert [one["id"] for one in listed] == ([own] if own else [])
            if own:
                assert listed[0]["owned_by"] == ("red" if text is RED else "blue")
        said = []
        for model in (other, "m9"):
            async with world.client.get(f"{url}/{model}", headers=bearer(text)) as response:
                assert response.status == 404
                said.append(await response.json())
        assert said[0] == said[1]


async def test_grpc_finds_no_others_either(world: World) -> None:
    assert await grpc_code(world, RED, model="m1") == (grpc.StatusCode.OK, "")
    foreign = await grpc_code(world, RED, model="m2")
    assert foreign[0] is grpc.StatusCode.NOT_FOUND
    assert foreign == await grpc_code(world, RED, model="m9")
    assert (await grpc_code(world, OTHER, model="m1"))[0] is grpc.StatusCode.PERMISSION_DENIED
    # The front speaks for all replicas, of every project.
    for text in (RED, FLEETS):
        assert (await grpc_code(world, text, CONTROL))[0] is grpc.StatusCode.PERMISSION_DENIED
