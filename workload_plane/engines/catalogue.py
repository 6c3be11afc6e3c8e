"""Which renderer belongs to which engine; the only way into the renderers.

The replica host calls `render`, whoever checks a deployment calls `refusals`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from skerry.fleet.engine import EngineName, EngineSpec
from workload_plane.engines import llamacpp, sglang, simulated, trtllm, vllm
from workload_plane.engines.port import (
    EngineLaunch,
    EngineRenderer,
    LaunchParameters,
    UnsupportedTechnique,
)

RENDERERS: Mapping[EngineName, EngineRenderer] = MappingProxyType(
    {
        EngineName.TENSORRT_LLM: trtllm,
        EngineName.VLLM: vllm,
        EngineName.SGLANG: sglang,
        EngineName.LLAMACPP: llamacpp,
        EngineName.SIMULATED: simulated,
    }
)


def refusals(spec: EngineSpec) -> tuple[str, ...]:
    """Return one sentence for each thing in the spec that its engine cannot do; () for none."""
    return RENDERERS[spec.name].refusals(spec)


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how the spec's engine is started; raises UnsupportedTechnique with every refusal."""
    found = refusals(spec)
    if found:
        raise UnsupportedTechnique("; ".join(found))
    return RENDERERS[spec.name].render(spec, launch)
