"""Which renderer belongs to which engine; the only way into the renderers.

The replica host calls `render`, whoever checks a deployment calls `refusals`, and `skerry engine
render` calls `engine_refusals` and `render_any`: it shows also what no plane can start yet.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from skerry.fleet.engine import EngineName, EngineProtocol, EngineSpec
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
    """Return one refusal for each thing that keeps the spec from being started; () for none."""
    return (*engine_refusals(spec), *_host_refusals(spec))


def engine_refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return one refusal for each thing in the spec that its engine cannot do, with who can."""
    return tuple(_with_alternatives(spec, one) for one in RENDERERS[spec.name].refusals(spec))


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how the spec's engine is started; raises UnsupportedTechnique with every refusal."""
    if found := refusals(spec):
        raise UnsupportedTechnique("; ".join(map(str, found)))
    return RENDERERS[spec.name].render(spec, launch)


def render_any(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how the spec's engine would be started, also where no plane can do that yet.

    Raises UnsupportedTechnique with everything that the engine itself cannot do.
    """
    if found := engine_refusals(spec):
        raise UnsupportedTechnique("; ".join(map(str, found)))
    return RENDERERS[spec.name].render(spec, launch)


def _host_refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return what an engine can do and a replica host cannot start or speak to yet."""
    found = []
    if spec.protocol is EngineProtocol.OPENENGINE and spec.name is EngineName.TENSORRT_LLM:
        found.append(
            Refusal(
                path=f"{ROOT}.protocol",
                message="a replica host passes openengine through for no engine yet, and users'"
                " HTTP would have no server; leave it out: the host translates",
            )
        )
    # A path of the deployment's own choice is no place that a plane may write to, and all of its
    # replicas would share it: engines name their files there by blocks, not by replica.
    if spec.prefix_caching.disk_path and spec.name is not EngineName.SIMULATED:
        found.append(
            Refusal(
                path=f"{ROOT}.prefixCaching.diskPath",
                message="no plane makes a directory for each replica's prefixes yet, with a bound"
                " and an end; leave diskPath and disk out, and raise hostMemory",
            )
        )
    return tuple(found)


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
