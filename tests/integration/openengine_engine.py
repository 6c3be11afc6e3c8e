"""An engine that serves `openengine.v1` itself: `trtllm-serve` as a replica host behind another.

No accelerator is here for TensorRT-LLM. What stands on the PATH for it takes the same words and
serves the same protocol: a whole `skerry-replica` before the simulated engine.
"""

import os
import sys
from itertools import pairwise
from pathlib import Path

import yaml

from skerry.fleet.engine import EngineName, EngineProtocol, EngineSpec, PrefixCaching
from tests.integration.replica_process import a_spec, an_engine
from workload_plane.replica_host import main as replica_host
from workload_plane.replica_host.spec import write_spec

_ROOT = Path(__file__).parents[2]


def put_on_path(directory: Path) -> str:
    """Write `trtllm-serve` into the directory and return a PATH that has it first."""
    directory.mkdir(parents=True)
    program = directory / "trtllm-serve"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(_ROOT)!r})\n"
        "from tests.integration.openengine_engine import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    program.chmod(0o700)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def a_passed_through_engine(caching: PrefixCaching | None = None) -> EngineSpec:
    """Return the engine of a deployment with `protocol: openengine`."""
    return EngineSpec(
        name=EngineName.TENSORRT_LLM,
        version="1.4",
        protocol=EngineProtocol.OPENENGINE,
        context_tokens=512,
        concurrent_requests=2,
        prefix_caching=caching or PrefixCaching(),
    )


def keep_prefixes(config: Path) -> None:
    """Write one block of one start to where the configuration has prefixes kept, if it does."""
    cache = yaml.safe_load(config.read_text())["kv_cache_config"]
    if path := cache.get("disk_cache_path"):
        (Path(path) / f"block-{os.getpid()}").write_bytes(b"x" * 4096)


def main(argv: list[str]) -> int:
    """Serve as `serve MODEL --host H --port P --served_model_name NAME … --config FILE` says."""
    verb, _, *rest = argv
    assert verb == "serve"
    said = dict(pairwise(rest))
    assert (said["--grpc-protocol"], "--grpc" in rest) == ("openengine", True)
    directory = Path(said["--config"]).parent / f"inside-{os.getpid()}"
    spec = a_spec(
        directory,
        an_engine(EngineName.SIMULATED, tpot_seconds="0.02", jitter="0"),
        name="inside",
        host=said["--host"],
        grpc_port=int(said["--port"]),
        served_name=said["--served_model_name"],
        drain_seconds_max=0.0,
        engine_restarts_max=0,
    )
    directory.mkdir()
    keep_prefixes(Path(said["--config"]))
    write_spec(directory / "spec.json", spec)
    return replica_host.main(["--spec", str(directory / "spec.json")])
