"""A replica over several nodes is started only where somebody starts its ranks there."""

import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.errors import Infeasible
from workload_plane.converge.apply import check_spans
from workload_plane.replicas.port import ReplicaOrder


def _order(engine: EngineName, *nodes: str) -> ReplicaOrder:
    return ReplicaOrder(
        name="demo-r1-a",
        deployment="demo",
        revision=1,
        pool="here--h100",
        served_name="demo",
        engine=EngineSpec(name=engine),
        nodes=nodes,
    )


@pytest.mark.parametrize("engine", list(EngineName))
def test_on_one_node_every_engine_is_started(engine: EngineName) -> None:
    for spreads in (True, False):
        check_spans(_order(engine, "n1"), spreads=spreads)
        check_spans(_order(engine), spreads=spreads)


@pytest.mark.parametrize("engine", [EngineName.TENSORRT_LLM, EngineName.VLLM, EngineName.SIMULATED])
def test_over_nodes_it_takes_a_runtime_that_spreads_it(engine: EngineName) -> None:
    check_spans(_order(engine, "n1", "n2"), spreads=True)
    with pytest.raises(Infeasible, match=r"over 2 nodes, and .* give the plane the runtime ray"):
        check_spans(_order(engine, "n1", "n2"), spreads=False)


@pytest.mark.parametrize("engine", [EngineName.SGLANG, EngineName.LLAMACPP])
def test_over_nodes_the_other_engines_are_refused_with_the_alternatives(engine: EngineName) -> None:
    with pytest.raises(Infeasible, match=r"fits one node, .* use tensorrt-llm or vllm"):
        check_spans(_order(engine, "n1", "n2"), spreads=True)
