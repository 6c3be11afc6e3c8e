"""How engines read tool calls and reasoning out of an answer: by which parsers, in which release.

A deployment names them in its options. The names of vLLM and SGLang are those of their own
registries; TensorRT-LLM's were read from its main branch, and 1.2 may have fewer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from skerry.fleet.engine import EngineName, EngineSpec
from workload_plane.engines.options import ChoiceOption, OptionRule

# Of vLLM and SGLang, and of TensorRT-LLM, whose flags have underscores.
TOOLS, REASONING = "tool-call-parser", "reasoning-parser"
TRTLLM_TOOLS, TRTLLM_REASONING = "tool_parser", "reasoning_parser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsers:
    """The names that one release knows."""

    tools: tuple[str, ...]
    reasoning: tuple[str, ...]


def _parsers(tools: str, reasoning: str) -> Parsers:
    return Parsers(tools=tuple(tools.split()), reasoning=tuple(reasoning.split()))


PARSERS: Mapping[tuple[EngineName, str], Parsers] = MappingProxyType(
    {
        (EngineName.TENSORRT_LLM, "1.2"): _parsers(
            """
        deepseek_v32 deepseekv3 deepseekv3.1 kimi_k2 qwen3 qwen3_coder
        """,
            """
        deepseek-r1 qwen3
        """,
        ),
        (EngineName.TENSORRT_LLM, "1.4"): _parsers(
            """
        deepseek_v32 deepseekv3 deepseekv3.1 kimi_k2 qwen3 qwen3_coder
        """,
            """
        deepseek-r1 deepseek_v4 minimax_m2 minimax_m2_append_think qwen3 qwen3_5
        """,
        ),
        (EngineName.VLLM, "0.16"): _parsers(
            """
        deepseek_v3 deepseek_v31 deepseek_v32 ernie45 functiongemma gigachat3 glm45
        glm47 granite granite-20b-fc hermes hunyuan_a13b internlm jamba kimi_k2
        llama3_json llama4_json llama4_pythonic longcat minimax minimax_m2 mistral olmo3
        openai phi4_mini_json pythonic qwen3_coder qwen3_xml seed_oss step3 step3p5 xlam
        """,
            """
        deepseek_r1 deepseek_v3 ernie45 glm45 granite holo2 hunyuan_a13b kimi_k2
        minimax_m2 minimax_m2_append_think mistral olmo3 openai_gptoss qwen3 seed_oss
        step3 step3p5
        """,
        ),
        (EngineName.VLLM, "0.33"): _parsers(
            """
        apertus beam cohere_command3 cohere_command4 deepseek_v3 deepseek_v31
        deepseek_v32 deepseek_v4 deepseek_v41 dots ernie45 functiongemma gemma4
        gigachat3 glm45 glm47 granite granite-20b-fc granite4 hermes hf hunyuan_a13b
        hy_v3 hy_v4 inkling internlm jamba k2_horizon kimi_k2 kimi_k3 lfm2 ling3
        llama3_json llama4_json llama4_pythonic longcat mimo minicpm5 minimax_m2
        minimax_m3 mistral muse muse_glimmer musespark1x olmo3 openai phi4_mini_json
        plamo3 poolside_v1 pythonic qwen3_coder qwen3_json qwen3_xml seed_oss step3
        step3p5 step5 xlam
        """,
            """
        beam cohere_command3 cohere_command4 deepseek_r1 deepseek_v3 deepseek_v4
        deepseek_v41 ernie45 gemma4 glm45 glm47 granite granite_thinking_parser hf holo2
        hunyuan_a13b hy_v3 hy_v4 inkling k2_horizon kimi_k2 kimi_k3 ling3 mimo minicpmv
        minimax_m2 minimax_m2_append_think minimax_m3 mistral muse muse_glimmer
        musespark1x nemotron_v3 olmo3 openai_gptoss plamo3 poolside_v1 qwen3 seed_oss
        step3 step3p5 step5
        """,
        ),
        (EngineName.SGLANG, "0.5.9"): _parsers(
            """
        deepseekv3 deepseekv31 deepseekv32 gigachat3 glm glm45 glm47 gpt-oss hermes
        interns1 kimi_k2 lfm2 llama3 mimo minimax-m2 mistral pythonic qwen qwen25
        qwen3_coder step3 step3p5 trinity
        """,
            """
        deepseek-r1 deepseek-v3 glm45 gpt-oss interns1 kimi kimi_k2 minimax
        minimax-append-think nano_v3 qwen3 qwen3-thinking step3 step3p5
        """,
        ),
        (EngineName.SGLANG, "0.5.23"): _parsers(
            """
        apertus2509 beam cohere_command4 deepseekv3 deepseekv31 deepseekv32 deepseekv4
        deepseekv41 dots gemma4 gigachat3 gigachat35 glm glm45 glm47 gpt-oss hermes
        hunyuan inkling interns1 iquest_q1 k2_horizon kimi_k2 kimi_k3 lfm2 ling3 llama3
        mimo minicpm5 minimax-m2 minimax-m3 mistral muse nanbeige poolside_v1 pythonic
        qwen qwen25 qwen3_coder response_template spark25 step3 step3p5 trinity
        """,
            """
        apertus2509 beam cohere_command4 deepseek-r1 deepseek-v3 deepseek-v4
        deepseek-v41 dots gemma4 gigachat35 glm45 gpt-oss granite_thinking_parser
        hunyuan inkling interns1 iquest_q1 k2_horizon kimi kimi_k2 kimi_k3 ling3 mimo
        minimax minimax-append-think minimax-m3 mistral muse nanbeige nemotron_3
        poolside_v1 qwen3 qwen3-thinking response_template step3 step3p5
        """,
        ),
    }
)


def parser_rules(name: EngineName, release: str) -> tuple[OptionRule, ...]:
    """Return the rules of the options that name parsers, by the engine's own flags."""
    known = PARSERS[name, release]
    own = name is EngineName.TENSORRT_LLM
    return (
        ChoiceOption(name=TRTLLM_TOOLS if own else TOOLS, choices=known.tools),
        ChoiceOption(name=TRTLLM_REASONING if own else REASONING, choices=known.reasoning),
    )


def tool_parser(spec: EngineSpec) -> str:
    """Return the parser of tool calls that the spec names, empty without one."""
    return _named(spec, (TOOLS, TRTLLM_TOOLS))


def reasoning_parser(spec: EngineSpec) -> str:
    """Return the parser of reasoning that the spec names, empty without one."""
    return _named(spec, (REASONING, TRTLLM_REASONING))


def _named(spec: EngineSpec, options: tuple[str, ...]) -> str:
    return next((value for name, value in spec.options if name in options), "")
