"""Runs llama.cpp's HTTP server inside this process until a signal ends it.

Called by `__main__`. Exit codes: 1 when it could not start, 2 for a file that is missing or bad.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from skerry.plumbing.errors import InvalidInput, NotFound, SkerryError, Unavailable
from skerry.plumbing.ports import check_port_free
from workload_plane.llamacpp_server.config import LlamacppConfig, check_model_file, read_config

# Errors only: at its default it writes five lines for every request, and two warnings for each
# prompt that the cache holds whole.
_VERBOSITY = 1
_MIB = 1024 * 1024
# A request holds a thread also while it waits for a slot, and with all of them held the health
# check would wait too and a busy engine look hung. 128 idle ones cost 2 MB.
_HTTP_THREADS_SPARE = 128


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal ends the process; return the exit code when it cannot."""
    parser = argparse.ArgumentParser(prog="llamacpp_server")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args(argv)
    # Nothing here is worth keeping, so the kernel ends it: at once, also while a model loads.
    # A handler of ours would wait for the loading, and llama.cpp's own end for open streams.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = start(read_config(arguments.config))
    except SkerryError as error:
        print(f"llamacpp_server: {error}", file=sys.stderr, flush=True)
        return 2 if isinstance(error, NotFound | InvalidInput) else 1
    print(f"llamacpp_server: listening on {server.listening_address}", file=sys.stderr, flush=True)
    while True:
        signal.pause()


def start(config: LlamacppConfig) -> Any:
    """Return the running server; raises NotFound, InvalidInput, Conflict or Unavailable."""
    check_model_file(Path(config.model_path))
    check_port_free(config.host, config.port)
    import xllamacpp  # 20 MB that the checks above do without

    try:
        return xllamacpp.Server(_parameters(config))
    except RuntimeError as error:
        raise Unavailable(
            f"llama.cpp refused {config.model_path}: {error}; its own lines above say why"
            " (a damaged file, an unknown architecture, too little memory)"
        ) from None


def _parameters(config: LlamacppConfig) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = config.model_path
    parameters.model_alias = {config.served_name}
    parameters.hostnames = [config.host]
    parameters.port = config.port
    parameters.n_parallel = config.slots
    parameters.n_ctx = config.context_tokens * config.slots  # it divides by the slots
    parameters.n_batch = config.batch_tokens
    parameters.n_ubatch = min(config.batch_tokens, parameters.n_ubatch)
    parameters.n_gpu_layers = config.gpu_layers
    parameters.cpuparams.n_threads = config.threads
    parameters.cpuparams_batch.n_threads = config.threads
    parameters.n_threads_http = config.slots + _HTTP_THREADS_SPARE
    cache_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{config.kv_cache_type.upper()}")
    parameters.cache_type_k = parameters.cache_type_v = cache_type
    parameters.cache_prompt = config.prefix_caching
    parameters.cache_ram_mib = config.host_cache_bytes // _MIB
    parameters.cache_idle_slots = bool(config.host_cache_bytes)
    parameters.endpoint_metrics = True
    parameters.endpoint_slots = False  # it shows users' prompts
    parameters.ui = False
    parameters.warmup = False
    parameters.verbosity = _VERBOSITY
    return parameters
