"""What does not answer, or not as it should, is unknown."""

import math
from pathlib import Path

import pytest

from workload_plane.autoscale.asking import PickerAsked, parse_load
from workload_plane.replica_host.load import EngineLoad


def test_a_host_tells_its_engines_load() -> None:
    told = {
        "state": "ready",
        "grpc_requests": 0,
        "running_requests": 3,
        "queued_requests": None,
        "generated_tokens": 900,
        "first_token_seconds": 1.5,
        "first_token_buckets": [[0.5, 3], [None, 4]],
        "token_interval_buckets": [[0.05, 7], [None, 9]],
        "answered": True,
    }
    assert parse_load(told) == EngineLoad(
        running_requests=3,
        generated_tokens=900,
        first_token_seconds=1.5,
        first_token_buckets=((0.5, 3.0), (math.inf, 4.0)),
        token_interval_buckets=((0.05, 7.0), (math.inf, 9.0)),
    )


def test_what_is_no_count_is_not_known() -> None:
    told = {"running_requests": True, "queued_requests": -1, "prompt_tokens": "7"}
    assert parse_load(told) == EngineLoad(answered=False)


@pytest.mark.parametrize(
    "buckets",
    [7, [], [[1]], [["a", 3]], [[None, -1]], [[0.5, 3]], [[2.0, 3], [1.0, 3], [None, 4]]],
)
def test_what_is_no_histogram_is_not_known(buckets: object) -> None:
    assert parse_load({"first_token_buckets": buckets}).first_token_buckets is None


@pytest.mark.parametrize("values", [None, [], "load", 7])
def test_what_is_no_object_is_no_load(values: object) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        parse_load(values)


async def test_a_picker_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert await PickerAsked(tmp_path).ask() is None
