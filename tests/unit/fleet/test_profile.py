"""Profiles: what they are of, what they say, and when a deployment takes their figures."""

from dataclasses import fields, replace
from typing import Any

import pytest

from skerry.fleet.deployment import Deployment, ResourceShape, ServiceObjective
from skerry.fleet.engine import (
    EngineName,
    EngineSpec,
    GuidedDecoding,
    KvCache,
    Lora,
    LoraAdapter,
    Parallelism,
    PrefixCaching,
    Quantisation,
)
from skerry.fleet.profile import (
    Profile,
    ProfileStep,
    configuration_digest,
    percentile,
    profile_key,
    with_measured,
)
from tests.builders import a_deployment, a_profile, a_step

ENGINE = EngineSpec(name=EngineName.VLLM, version="0.33", quantisation=Quantisation(weights="fp8"))
# As the first release made it: another one would not find what was measured under it.
GOLDEN = "b4262555"
OF_NO_WEIGHT: dict[str, Any] = {
    "name": EngineName.SGLANG,
    "version": "0.34",
    "guided_decoding": GuidedDecoding(backend="xgrammar"),
}
OF_WEIGHT: dict[str, Any] = {
    "context_tokens": 4096,
    "concurrent_requests": 8,
    "quantisation": Quantisation(weights="fp8", kv_cache="fp8"),
    "kv_cache": KvCache(memory_share=0.8),
    "prefix_caching": PrefixCaching(enabled=False),
    "parallelism": Parallelism(tensor=2),
    "options": (("enforce-eager", "true"),),
}


def on(*accelerators: str, said: float | None = None) -> Deployment:
    """A deployment that may run on these kinds."""
    deployment = a_deployment()
    shapes = tuple(
        ResourceShape(accelerator=kind, throughput_tokens_per_second=said) for kind in accelerators
    )
    return replace(deployment, revision=replace(deployment.revision, shapes=shapes))


def speeds_of(deployment: Deployment) -> list[float | None]:
    return [shape.throughput_tokens_per_second for shape in deployment.revision.shapes]


def known(*profiles: Profile) -> dict[Any, Profile]:
    return {profile.key: profile for profile in profiles}


def test_a_digest_is_the_one_that_the_first_release_made() -> None:
    assert configuration_digest(ENGINE)[:8] == GOLDEN


@pytest.mark.parametrize("field", OF_NO_WEIGHT)
def test_what_does_not_make_answers_faster_is_no_other_configuration(field: str) -> None:
    other = replace(ENGINE, **{field: OF_NO_WEIGHT[field]})
    assert configuration_digest(other) == configuration_digest(ENGINE)


@pytest.mark.parametrize("field", OF_WEIGHT)
def test_what_may_make_answers_faster_is_another_configuration(field: str) -> None:
    other = replace(ENGINE, **{field: OF_WEIGHT[field]})
    assert configuration_digest(other) != configuration_digest(ENGINE)


def test_a_cache_on_disk_counts_and_where_it_lies_does_not() -> None:
    def at(path: str | None, size: int | None = None) -> str:
        caching = PrefixCaching(disk_path=path, disk_bytes=size)
        return configuration_digest(replace(ENGINE, prefix_caching=caching))

    assert at("/a", 1) == at("/b", 1)
    assert len({at("/a", 1), at("/a", 2), at(None)}) == 3


def test_adapters_count_by_how_many_and_how_large_they_are() -> None:
    def of(*adapters: str, rank_max: int = 16) -> str:
        loaded = tuple(LoraAdapter(name=name, uri=f"hf://{name}") for name in adapters)
        return configuration_digest(replace(ENGINE, lora=Lora(adapters=loaded, rank_max=rank_max)))

    assert of("a") == of("b")
    assert len({of("a"), of("a", "b"), of("a", rank_max=32), configuration_digest(ENGINE)}) == 4


def test_each_part_of_a_key_has_a_name_of_its_own() -> None:
    key = a_profile({1: 1.0}).key
    others: dict[str, Any] = {
        "base_model": "hf://x/y",
        "engine": EngineName.VLLM,
        "engine_version": "1.2",
        "configuration": "0" * 64,
        "accelerator": "h100",
        "accelerators": 2,
    }
    assert set(others) == {field.name for field in fields(key)}
    names = {replace(key, **{part: value}).name for part, value in others.items()}
    assert len({*names, key.name}) == len(others) + 1


@pytest.mark.parametrize("kind", EngineName)
def test_a_profile_is_made_for_every_engine(kind: EngineName) -> None:
    assert a_profile({1: 1.0}, engine=kind).name.startswith(f"{kind}-")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "another"}, "name"),
        ({"accelerator": "h100"}, "name"),
        ({"engine": "abacus"}, "engine"),
        ({"engine_version": "newest"}, "engine_version"),
        ({"configuration": "x" * 64}, "configuration"),
        ({"base_model": ""}, "base_model"),
        ({"accelerators": 0}, "accelerators"),
        ({"steps": ()}, "steps"),
        ({"steps": (a_step(2), a_step(1))}, "steps"),
        ({"load_seconds": -1.0}, "load_seconds"),
        ({"software": "\x1b"}, "software"),
    ],
)
def test_what_no_profile_has_is_refused_by_its_field(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(a_profile({1: 1.0}), **wrong)


@pytest.mark.parametrize("field", [field.name for field in fields(ProfileStep)])
def test_a_step_has_no_negative_figure(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        replace(a_step(), **{field: -1})


def test_the_peak_is_of_any_concurrency_and_what_is_in_time_of_the_largest() -> None:
    late = a_step(8, 350.0, ttft_p99_seconds=3.0)
    steps = (a_step(1, 100.0), a_step(4, 300.0), late, a_step(16, 200.0, tpot_p99_seconds=0.5))
    profile = replace(a_profile({1: 1.0}), steps=steps)
    assert profile.peak_tokens_per_second == 350.0
    assert profile.step_within(ServiceObjective()) == steps[1]
    assert profile.step_within(ServiceObjective(ttft_seconds=5.0)) == late
    assert profile.step_within(ServiceObjective(ttft_seconds=0.01)) is None


def test_a_deployment_takes_what_was_measured_of_all_its_shapes() -> None:
    deployment = on("cpu", "h100")
    cpu = a_profile({1: 100.0, 4: 300.0}, deployment)
    h100 = a_profile({1: 900.0}, deployment, accelerator="h100")
    assert speeds_of(with_measured(deployment, known(cpu, h100))) == [300.0, 900.0]
    for some in (known(), known(cpu), known(h100)):
        assert with_measured(deployment, some) is deployment


def test_what_a_deployment_says_itself_stands() -> None:
    deployment = on("cpu", said=7.0)
    assert with_measured(deployment, known(a_profile({1: 100.0}, deployment))) is deployment


def test_what_is_never_in_time_is_not_counted_with() -> None:
    deployment = on("cpu")
    profile = a_profile({1: 100.0}, deployment)
    late = replace(profile, steps=(a_step(tpot_p99_seconds=9.0),))
    assert with_measured(deployment, known(late)) is deployment


def test_another_configuration_of_the_same_engine_is_not_measured() -> None:
    deployment = on("cpu")
    profile = a_profile({1: 100.0}, deployment)
    engine = replace(deployment.revision.engine, concurrent_requests=64)
    other = replace(deployment, revision=replace(deployment.revision, engine=engine))
    assert profile_key(other.revision, other.revision.shapes[0]) != profile.key
    assert with_measured(other, known(profile)) is other


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile((), 99) == 0.0
    assert percentile((3.0, 1.0, 2.0), 50) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0
