"""SGLang's and vLLM's own request models take what the dialects ask of them.

No accelerator. `make test-engines` runs it; nothing else does.
"""

from pathlib import Path
from typing import Any

import pytest

from skerry.api.openengine.v1 import generation_pb2
from tests.engines.releases import RELEASES, asked
from workload_plane.replica_host import vllm_dialect
from workload_plane.replica_host.dialects import EngineDialect
from workload_plane.replica_host.faults import RequestFault
from workload_plane.replica_host.sampling import choice_regex
from workload_plane.replica_host.sglang_dialect import SGLANG, SGLANG_0_5_9

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3_600)]

DIALECTS: dict[str, EngineDialect] = {
    "sglang-0.5.9": SGLANG_0_5_9,
    "sglang-0.5.23": SGLANG,
    "vllm-0.16": vllm_dialect,
    "vllm-0.33": vllm_dialect,
}
TAG = (
    '{"type": "structural_tag", "format": {"type": "tag", "begin": "<a>", "end": "</a>",'
    ' "content": {"type": "any_text"}}}'
)
# Every field of a request that some dialect passes on, at its bounds where it has any.
CASES: dict[str, dict[str, Any]] = {
    "text": {"prompt": "hi"},
    "token ids": {"token_ids": {"ids": [1, 2]}},
    "sampling": {
        "sampling": {
            "temperature": 0,
            "top_p": 0.5,
            "top_k": 5,
            "min_p": 0.1,
            "frequency_penalty": -2,
            "presence_penalty": 2,
            "repetition_penalty": 2,
            "seed": 2**63 - 1,
        }
    },
    "no bound on top_k": {"sampling": {"temperature": 100, "top_k": 0}},
    "several": {"sampling": {"num_sequences": 2, "seed": 1}, "kv": {"cache_salt": "s"}},
    "several token ids": {"token_ids": {"ids": [1]}, "sampling": {"num_sequences": 2}},
    "stopping": {
        "stopping": {
            "max_tokens": 9,
            "min_tokens": 9,
            "ignore_eos": True,
            "include_stop_in_output": True,
            "conditions": [{"stop_text": "END"}, {"stop_text": "\n"}, {"stop_token_id": 0}],
        }
    },
    "log probabilities": {"response": {"return_output_logprobs": True}},
    "candidates": {
        "response": {"return_output_logprobs": True, "output_candidates": {"top_n": 20}},
    },
    "several with candidates": {
        "response": {"return_output_logprobs": True, "output_candidates": {"top_n": 20}},
        "sampling": {"num_sequences": 2},
    },
    "salt and adapter": {"kv": {"cache_salt": "s"}, "lora_name": "french"},
    "json schema": {"guided": {"json_schema": '{"type": "object"}'}},
    "json object": {"guided": {"json_object": {}}},
    "regex": {"guided": {"regex": "a+"}},
    "grammar": {"guided": {"ebnf_grammar": 'root ::= "x"'}},
    "structural tag": {"guided": {"structural_tag": TAG}},
    "choice": {"guided": {"choice": {"choices": ["yes", "no"]}}},
}
# What a release's dialect refuses before the engine sees it: SGLang 0.5.9 cannot cancel several.
REFUSED: dict[str, set[str]] = {
    "sglang-0.5.9": {"several", "several token ids", "several with candidates"}
}
# Of each engine's body one field that it does not know, or a value that it does not take.
WRONG: dict[str, dict[str, Any]] = {
    "sglang": {"sampling_params": {"nonsense": 1}},
    "vllm": {"n": "many"},
}
# Signs that mean something in a regular expression, and others.
CHOICES = ["yes", r"no (1+1) [x]{y} ^$ a.b*?|\ ", "tab\t\n", "é -#&~/\"'<>_%@!,;:=`"]


def bodies(line: str) -> dict[str, Any]:
    """Return what the release's dialect posts for each case that it does not refuse."""
    dialect, found = DIALECTS[line], {}
    for name, fields in CASES.items():
        source = {} if "token_ids" in fields else {"prompt": "hi"}
        request = generation_pb2.GenerateRequest(**(source | fields))
        if name in REFUSED.get(line, ()):
            with pytest.raises(RequestFault, match="num_sequences"):
                dialect.check(request)
            continue
        dialect.check(request)
        found[name] = dict(dialect.body(request, "m"))
    return found


@pytest.mark.parametrize("line", sorted(RELEASES))
def test_engines_own_request_model_takes_every_body(python: Path, line: str) -> None:
    posted = bodies(line)
    said = asked(python, line, _script(line), list(posted.values()))
    refused = zip(posted, said, strict=True)
    assert {name: fault for name, fault in refused if fault is not None} == {}


@pytest.mark.parametrize("line", sorted(RELEASES))
def test_engines_own_request_model_refuses_what_is_wrong(python: Path, line: str) -> None:
    plain = bodies(line)["text"]
    (fault,) = asked(python, line, _script(line), [plain | WRONG[line.split("-")[0]]])
    assert fault is not None


def test_choices_are_exactly_what_grammar_backends_let_through(python: Path) -> None:
    told = {"regex": choice_regex(CHOICES), "taken": CHOICES, "refused": ["", "no", "yesyes"]}
    assert asked(python, "sglang-0.5.23", "match_regex.py", told) == []


def _script(line: str) -> str:
    return f"take_{line.split('-')[0]}_requests.py"
