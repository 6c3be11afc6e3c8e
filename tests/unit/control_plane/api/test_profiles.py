"""Profiles over the API: kept, replaced, filtered and forgotten; wrong ones refused by field."""

from typing import Any

import grpc
import pytest

from skerry.api.operator.v1 import catalogue_service_pb2 as pb
from skerry.client.catalogue_calls import PROFILES, entry_message, get_entry
from skerry.fleet.profile import Profile
from tests.builders import a_profile
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
MEASURED = a_profile({1: 100.0, 8: 400.0})
Code = grpc.StatusCode


async def put(operator: Operator, profile: Profile, **told: Any) -> Any:
    message = entry_message("default", PROFILES, profile)
    for field, value in told.items():
        setattr(message, field, value)
    request = pb.UpdateProfileRequest(profile=message, allow_missing=True)
    return await operator.catalogue.UpdateProfile(request)


async def names(operator: Operator, passes: str = "") -> list[str]:
    request = pb.ListProfilesRequest(parent=PARENT, filter=passes)
    found = await operator.catalogue.ListProfiles(request)
    return [profile.name.rpartition("/")[2] for profile in found.profiles]


async def test_what_is_kept_is_read_as_it_was_measured(operator: Operator) -> None:
    made = await put(operator, MEASURED)
    asked = get_entry("default", PROFILES, MEASURED.name)
    assert await operator.catalogue.GetProfile(asked.request) == made
    row = asked.read(made)
    assert row.value == MEASURED
    assert row.etag
    assert operator.reconciler.woken == [True], "the scheduler counts with it"


async def test_newer_figures_take_the_place_of_older_ones(operator: Operator) -> None:
    await put(operator, MEASURED)
    made = await put(operator, a_profile({1: 150.0}))
    assert [step.output_tokens_per_second for step in made.steps] == [150.0]
    assert await names(operator) == [MEASURED.name]


async def test_profiles_are_filtered_and_forgotten(operator: Operator) -> None:
    other = a_profile({1: 1.0}, accelerator="h100")
    await put(operator, MEASURED)
    await put(operator, other)
    assert await names(operator, 'accelerator = "h100"') == [other.name]
    name = f"{PARENT}/profiles/{other.name}"
    await operator.catalogue.DeleteProfile(pb.DeleteProfileRequest(name=name))
    assert await names(operator) == [MEASURED.name]


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"base_model": "hf://another/one"}, "profile.name"),
        ({"accelerators": 0}, "profile.accelerators"),
        ({"load_seconds": -1.0}, "profile.load_seconds"),
    ],
)
async def test_what_nobody_measured_is_refused_by_its_field(
    operator: Operator, told: dict[str, Any], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await put(operator, MEASURED, **told)
    assert error.value.code() is Code.INVALID_ARGUMENT
    assert field.partition(".")[2] in (error.value.details() or "")
    assert await names(operator) == []
