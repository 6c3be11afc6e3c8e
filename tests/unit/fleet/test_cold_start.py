"""The estimate of a start rests on the nearest starts that were measured, and says on which."""

from dataclasses import replace

import pytest

from skerry.fleet.cold_start import StartKind, StartSource, as_text, estimate, ninth_decile
from skerry.fleet.engine import EngineName
from tests.builders import a_profile

ASKED = StartKind(
    base_model="hf://x", engine=EngineName.VLLM, configuration="c", accelerator="h100"
)
OTHERWISE = replace(ASKED, configuration="d")
ON_A100 = StartKind(base_model="hf://x", engine=EngineName.VLLM, accelerator="a100")
OF_Y = StartKind(base_model="hf://y", engine=EngineName.VLLM, accelerator="h100")
WITH_SGLANG = StartKind(base_model="hf://x", engine=EngineName.SGLANG, accelerator="h100")


def test_the_very_kind_is_preferred_and_the_sentence_has_the_count() -> None:
    starts = {ASKED: [30.0] * 11 + [41.0] * 1, ON_A100: [99.0], OF_Y: [1.0]}
    found = estimate(ASKED, starts)
    assert (found.seconds, found.basis) == (
        30.0,
        "p90 of 12 starts of hf://x with vllm on h100: 30 s",
    )


def test_without_it_the_same_model_and_engine_elsewhere_then_the_same_engine() -> None:
    found = estimate(ASKED, {ASKED: [], ON_A100: [99.0], OF_Y: [1.0], WITH_SGLANG: [2.0]})
    assert found.seconds == 99.0
    assert found.basis == "p90 of 1 start of hf://x with vllm, none of them on h100: 99 s"
    found = estimate(ASKED, {OF_Y: [1.0, 3.0], WITH_SGLANG: [2.0]})
    assert found.seconds == 3.0
    assert found.basis == "p90 of 2 starts with vllm, none of them of hf://x: 3.0 s"


PROFILE = replace(a_profile({1: 100.0}), load_seconds=12.5)


def test_a_profile_goes_before_all_but_starts_of_the_very_kind() -> None:
    found = estimate(ASKED, {ASKED: [30.0], OTHERWISE: [99.0]}, PROFILE)
    assert (found.seconds, found.source) == (30.0, StartSource.STARTS)
    found = estimate(ASKED, {OTHERWISE: [99.0], ON_A100: [1.0]}, PROFILE)
    assert (found.seconds, found.source) == (12.5, StartSource.PROFILE)
    assert found.basis == (
        f"load time of profile {PROFILE.name}, measured {PROFILE.measured_at:%Y-%m-%d}: 12 s"
    )


def test_a_profile_that_does_not_know_the_load_time_tells_nothing() -> None:
    found = estimate(ASKED, {OTHERWISE: [99.0]}, replace(PROFILE, load_seconds=0.0))
    assert (found.seconds, found.source) == (99.0, StartSource.SIMILAR_STARTS)
    assert found.basis == (
        "p90 of 1 start of hf://x with vllm on h100, none known to be of this configuration: 99 s"
    )
    assert estimate(ASKED, {}, replace(PROFILE, load_seconds=0.0)).source is StartSource.NONE


def test_with_nothing_measured_there_is_no_estimate() -> None:
    found = estimate(ASKED, {WITH_SGLANG: [2.0]})
    assert found.seconds is None
    assert found.basis == "no start like it was measured: hf://x with vllm on h100"


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1.0), (2, 2.0), (9, 9.0), (10, 9.0), (11, 10.0), (20, 18.0)]
)
def test_nine_of_ten_do_not_exceed_the_ninth_decile(count: int, expected: float) -> None:
    assert ninth_decile([float(n) for n in range(count, 0, -1)]) == expected


def test_seconds_have_tenths_only_below_ten() -> None:
    assert [as_text(s) for s in (0.04, 9.94, 9.96, 41.4, 1_234.0)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "41 s",
        "1,234 s",
    ]
