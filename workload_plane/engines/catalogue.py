"""Which renderer belongs to which engine; the only way into the renderers.

The replica host and `skerry engine render` call `render`, whoever checks a deployment calls
`refusals`.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.spanning import why_on_one_node
from workload_plane.engines import llamacpp, sglang, simulated, trtllm, vllm
from workload_plane.engines.findings import ROOT
from workload_plane.engines.port import (
    EngineLaunch,
    EngineRenderer,
    LaunchParameters,
    Refusal,
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
# Fields that every engine has in words of its own, so that no other one is an alternative.
_OWN_WORDS = tuple(
    f"{ROOT}.{name}" for name in ("options", "version", "protocol", "batching", "quantisation")
)


def refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return one refusal for each thing in the spec that its engine cannot do, with who can."""
    return tuple(_with_alternatives(spec, one) for one in RENDERERS[spec.name].refusals(spec))


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how the spec's engine is started; raises UnsupportedTechnique with every refusal."""
    if found := refusals(spec):
        raise UnsupportedTechnique("; ".join(map(str, found)))
    if launch.nodes > 1 and (reason := why_on_one_node(spec)):
        raise UnsupportedTechnique(f"over {launch.nodes} nodes: {reason}")
    return RENDERERS[spec.name].render(spec, launch)


def _with_alternatives(spec: EngineSpec, refusal: Refusal) -> Refusal:
    """Name in a refusal the engines that would take the field as it is."""
    if refusal.path.startswith(_OWN_WORDS):
        return refusal
    others = []
    for name, renderer in RENDERERS.items():
        if name in (spec.name, EngineName.SIMULATED) or not renderer.VERSIONS:
            continue
        other = replace(spec, name=name, version=renderer.VERSIONS[-1], options=())
        if not any(_is_about(found, refusal) for found in renderer.refusals(other)):
            others.append(f"{name} {renderer.VERSIONS[-1]}")
    if not others:
        return refusal
    return replace(refusal, message=f"{refusal.message} (can: {', '.join(others)})")


def _is_about(found: Refusal, refusal: Refusal) -> bool:
    """Tell whether two refusals are of the same field, or one of a part of the other's."""
    shorter, longer = sorted((found.path, refusal.path), key=len)
    return longer == shorter or longer.startswith((f"{shorter}.", f"{shorter}["))
