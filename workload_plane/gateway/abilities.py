"""What an engine itself serves, as far as the gateway must know: paths, adapters, tools. PURE.

`routing.build_topology` asks. A path that an engine has not is refused by the gateway in OpenAI's
shape: engines answer with shapes of their own, or with an error that looks like a wrong URL.
"""

from collections.abc import Mapping

from skerry.fleet.deployment import Revision
from skerry.fleet.engine import EngineName, EngineProtocol

EMBEDDINGS, RESPONSES = "embeddings", "responses"
# Below /v1/. vLLM and SGLang have both, and say by themselves when a base model is of another kind;
# llama.cpp is started without embeddings.
_LACKS: Mapping[EngineName, tuple[str, ...]] = {
    EngineName.TENSORRT_LLM: (EMBEDDINGS,),
    EngineName.VLLM: (),
    EngineName.SGLANG: (),
    EngineName.LLAMACPP: (EMBEDDINGS, RESPONSES),
    EngineName.SIMULATED: (EMBEDDINGS, RESPONSES),
}


def lacking_paths(engine: EngineName) -> tuple[str, ...]:
    """Return the paths below /v1/ that replicas of the engine do not serve."""
    return _LACKS[engine]


def serves_trtllm(revision: Revision, engine: EngineName) -> bool:
    """Return whether `trtllm.TrtllmService` is what the engine serves, and all it serves."""
    # An engine that stands in for the revision's, as a plane's settings may say, has HTTP.
    is_own = engine is EngineName.TENSORRT_LLM
    return is_own and revision.engine.protocol is EngineProtocol.TRTLLM


def adapter_names(revision: Revision, engine: EngineName) -> tuple[str, ...]:
    """Return the values of `model` by which the engine takes the revision's adapters.

    vLLM knows an adapter as a model of its own name, SGLang as SERVED_NAME:ADAPTER; TensorRT-LLM
    takes it from a field of its own, `lora_request`, whatever `model` says.
    """
    lora = revision.engine.lora
    if lora is None:
        return ()
    names = tuple(adapter.name for adapter in lora.adapters)
    if engine is EngineName.VLLM:
        return names
    if engine is EngineName.SGLANG:
        return tuple(f"{revision.base_model.served_name}:{name}" for name in names)
    return ()


def is_fragile(engine: EngineName) -> bool:
    """Return whether a request of a few hundred kilobytes can hang or end the engine."""
    return engine is EngineName.LLAMACPP


def ignores_tools(revision: Revision, engine: EngineName) -> bool:
    """Return whether the engine would answer a request with tools as if it had none."""
    # The others refuse tools by themselves when no parser for them is set.
    is_llamacpp = engine is EngineName.LLAMACPP
    return is_llamacpp and dict(revision.engine.options).get("tools", "").lower() != "true"
