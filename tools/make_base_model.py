"""Makes the small base model `examples/models/skerry-tiny.gguf` that Skerry ships.

torch is no dependency of the project. In the checkout, with CPython 3.11 or 3.12:

    python3 -m venv .venv-model && .venv-model/bin/pip install torch==2.13.0 numpy gguf==0.19.0
    .venv-model/bin/python -m tools.make_base_model --out examples/models/skerry-tiny.gguf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.base_model.corpus import read_sources
from tools.base_model.gguf_file import write_gguf
from tools.base_model.training import fit, make_tokenizer

# 980 steps are 4 million tokens: twelve minutes on one core of a shared machine with AMX.
STEPS_DEFAULT = 980


def main() -> None:
    """Train the model and write it; prints the loss as it goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the GGUF file to write")
    parser.add_argument("--steps", type=int, default=STEPS_DEFAULT, help="batches to train on")
    options = parser.parse_args()
    sources = read_sources()
    tokenizer = make_tokenizer(sources)
    print(f"{len(sources.paragraphs)} paragraphs of prose, {tokenizer.size} tokens", flush=True)
    fitted = fit(sources, tokenizer, options.steps)
    write_gguf(options.out, fitted.network, tokenizer)
    size_bytes = options.out.stat().st_size
    print(f"held-out loss {fitted.held_out_loss:.3f} nats/token; {size_bytes} bytes", flush=True)


if __name__ == "__main__":
    main()
