"""Which replicas may be spread over several nodes: by their engine, and by their plane.

Asked by the scheduler before it places one, and by the plane before it starts one.
"""

from collections.abc import Mapping
from types import MappingProxyType

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.pool import PlaneIdentity

# A plane tells its runtime by a label of its identity; one of a release before it tells nothing.
RUNTIME_LABEL = "skerry.io/runtime"
ONE_HOST_RUNTIME = "local"

_REMEDY = "say a shape that fits one node, with smaller parallel degrees"
_ON_ONE_NODE: Mapping[EngineName, str] = MappingProxyType(
    {
        EngineName.LLAMACPP: "llamacpp is one process on one node",
        EngineName.SGLANG: "sglang would need a process of its own on each node, which no plane"
        " starts",
    }
)
_SPREAD = "tensorrt-llm or vllm"


def why_on_one_node(engine: EngineSpec) -> str | None:
    """Return why the engine cannot be spread over nodes, with the remedy; None where it can.

    TensorRT-LLM and vLLM have their ranks placed by Ray.
    """
    if reason := _ON_ONE_NODE.get(engine.name):
        return f"{reason}: {_REMEDY}, or use {_SPREAD}"
    if engine.disaggregation is not None:
        return f"prefill and decode apart are on one node: leave disaggregation out, or {_REMEDY}"
    if engine.parallelism.data > 1:
        return f"copies of data parallelism are on one node: set data to 1, or {_REMEDY}"
    if engine.prefix_caching.disk_path and engine.name is not EngineName.SIMULATED:
        return f"prefixes on disk are on one node: leave diskPath and disk out, or {_REMEDY}"
    if dict(engine.options).get("num_postprocess_workers", "0") != "0":
        return (
            "with its ranks placed by Ray tensorrt-llm has no postprocess workers: leave the option"
            f" num_postprocess_workers out, or {_REMEDY}"
        )
    return None


def why_on_one_host(plane: PlaneIdentity) -> str | None:
    """Return why the plane spreads no replica over nodes, with the remedy; None where it may."""
    if dict(plane.labels).get(RUNTIME_LABEL) != ONE_HOST_RUNTIME:
        return None
    return (
        f"plane {plane.name} runs replicas as processes of one host (runtime local): {_REMEDY}, or"
        " give the plane the runtime ray"
    )
