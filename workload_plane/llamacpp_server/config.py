"""The server's configuration file, and what must hold before llama.cpp is asked to start.

`workload_plane.engines.llamacpp` writes the file. llama.cpp answers every fault with the same
sentence, so the faults that a person can mend are looked for first.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from skerry.plumbing.errors import InvalidInput, NotFound

_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamacppConfig:
    """What one llama.cpp server serves; `context_tokens` is for each of its slots."""

    model_path: str
    served_name: str
    host: str
    port: int
    slots: int = 4
    context_tokens: int = 2048
    threads: int = 1
    batch_tokens: int = 512
    gpu_layers: int = 0
    kv_cache_type: str = "f16"
    prefix_caching: bool = True
    host_cache_bytes: int = 0


def read_config(path: Path) -> LlamacppConfig:
    """Return the file's configuration; raises NotFound or InvalidInput with the remedy."""
    try:
        return LlamacppConfig(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; --config names the JSON configuration") from None
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is no configuration of this server: {error}") from None


def check_model_file(path: Path) -> None:
    """Raise NotFound or InvalidInput unless the file can be read and begins as a GGUF."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise NotFound(
            f"base model {path} does not exist; put the GGUF file there or correct the URI"
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"base model {path} cannot be read: {error.strerror}; it must be a readable file"
        ) from None
    if magic != _MAGIC:
        raise InvalidInput(f"base model {path} is no GGUF file; convert it to GGUF first")
