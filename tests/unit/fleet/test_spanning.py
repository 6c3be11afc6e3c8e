"""Who may be spread over nodes: two engines' ranks are placed by Ray, on planes that run on it."""

import pytest

from skerry.fleet.engine import EngineName, EngineSpec, Parallelism, PrefixCaching
from skerry.fleet.pool import PlaneIdentity
from skerry.fleet.spanning import why_on_one_host, why_on_one_node


@pytest.mark.parametrize("name", [EngineName.TENSORRT_LLM, EngineName.VLLM, EngineName.SIMULATED])
def test_engines_whose_ranks_ray_places_are_spread(name: EngineName) -> None:
    assert why_on_one_node(EngineSpec(name=name, parallelism=Parallelism(tensor=16))) is None


@pytest.mark.parametrize("name", [EngineName.SGLANG, EngineName.LLAMACPP])
def test_the_others_are_not_and_name_who_is(name: EngineName) -> None:
    reason = why_on_one_node(EngineSpec(name=name))
    assert reason is not None
    assert "use tensorrt-llm or vllm" in reason


def test_prefixes_on_disk_are_of_one_node() -> None:
    caching = PrefixCaching(host_memory_bytes=1, disk_path="/kv", disk_bytes=1)
    reason = why_on_one_node(EngineSpec(name=EngineName.VLLM, prefix_caching=caching))
    assert reason is not None
    assert "leave diskPath and disk out" in reason


@pytest.mark.parametrize(("labels", "is_one_host"), [("local", True), ("ray", False), ("", False)])
def test_a_plane_that_says_it_is_one_host_spreads_nothing(labels: str, is_one_host: bool) -> None:
    told = (("skerry.io/runtime", labels),) if labels else ()
    plane = PlaneIdentity(name="fra", cloud="c", region="r", labels=told)
    assert (why_on_one_host(plane) is not None) is is_one_host
