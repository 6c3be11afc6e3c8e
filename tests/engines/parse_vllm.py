"""Runs in the venv that has vLLM: puts command lines through its own argument parser.

Reads a JSON list of argvs (`vllm serve MODEL ...`) and prints, for each, what was wrong with it or
null. Values that are JSON are put into vLLM's own configuration classes as well.
"""

import contextlib
import dataclasses
import io
import json
import sys
from typing import Any

import vllm.platforms as platforms
from vllm.platforms.cpu import CpuPlatform

# The parser asks which accelerator there is; a build for none would find none.
platforms._current_platform = CpuPlatform()

from vllm.config import CompilationConfig, KVTransferConfig, SpeculativeConfig  # noqa: E402
from vllm.config.structured_outputs import StructuredOutputsConfig  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

try:
    from vllm.entrypoints.common.cli_args import make_arg_parser
except ImportError:  # where 0.16 has it
    from vllm.entrypoints.openai.cli_args import make_arg_parser


def _as_dict(value: Any) -> dict[str, Any]:
    return dict(json.loads(value) if isinstance(value, str) else value or {})


def _check_speculative(config: dict[str, Any]) -> None:
    """Check the names; the class itself would open the draft model."""
    known = {field.name for field in dataclasses.fields(SpeculativeConfig)}
    if unknown := set(config) - known:
        raise ValueError(f"unknown keys of --speculative-config: {sorted(unknown)}")
    if "num_speculative_tokens_per_batch_size" in config:
        from vllm.v1.spec_decode.dynamic.utils import validate_and_normalize_dynamic_sd_schedule

        validate_and_normalize_dynamic_sd_schedule(config["num_speculative_tokens_per_batch_size"])


def _check_transfer(value: Any) -> None:
    transfer = value if isinstance(value, KVTransferConfig) else KVTransferConfig(**_as_dict(value))
    extra = transfer.kv_connector_extra_config
    if extra.get("spec_name") == "TieringOffloadingSpec":
        from vllm.v1.kv_offload.factory import OffloadingSpecFactory
        from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory

        OffloadingSpecFactory._registry[extra["spec_name"]]
        for tier in extra["secondary_tiers"]:
            SecondaryTierFactory._registry[tier["type"]]


def fault_of(argv: list[str]) -> str | None:
    """Return what vLLM's parser says against a command line; None when it takes it."""
    assert argv[:2] == ["vllm", "serve"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(argv[2:])
        if parsed.speculative_config:
            _check_speculative(_as_dict(parsed.speculative_config))
        if parsed.kv_transfer_config:
            _check_transfer(parsed.kv_transfer_config)
        if isinstance(parsed.structured_outputs_config, (str, dict)):
            StructuredOutputsConfig(**_as_dict(parsed.structured_outputs_config))
        if isinstance(parsed.compilation_config, (str, dict)):
            CompilationConfig(**_as_dict(parsed.compilation_config))
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    print(json.dumps([fault_of(argv) for argv in json.load(sys.stdin)]))
