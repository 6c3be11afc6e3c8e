"""Writes the trained network as a GGUF file that llama.cpp loads as its `llama` architecture.

Called by `tools/make_base_model.py`.
"""

from __future__ import annotations

import platform
from pathlib import Path

import gguf
import numpy as np
from torch import Tensor

from tools.base_model.corpus import DOCUMENT_START, TURN_END
from tools.base_model.network import Network, Shape
from tools.base_model.tokenizer import BYTES, Tokenizer, printable_bytes

ARCHITECTURE = "llama"
MODEL_NAME = "skerry-tiny"
LICENCE = "Apache-2.0"
# A network this small wanders at temperature 0.8; these keep its sentences whole and still vary.
DEFAULT_TEMPERATURE = 0.6
DEFAULT_TOP_K = 20
DEFAULT_TOP_P = 0.9

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)

# Our names within a block, and llama.cpp's.
BLOCK_TENSORS = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "feed_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def write_gguf(path: Path, network: Network, tokenizer: Tokenizer) -> None:
    """Write `network` and `tokenizer` to `path`, matrices as Q8_0 and norms as F32."""
    writer = gguf.GGUFWriter(str(path), ARCHITECTURE)
    _add_description(writer)
    _add_shape(writer, network.shape)
    _add_tokenizer(writer, tokenizer)
    for name, tensor in _named_tensors(network):
        _add_tensor(writer, name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_description(writer: gguf.GGUFWriter) -> None:
    writer.add_name(MODEL_NAME)
    writer.add_license(LICENCE)
    writer.add_languages(["en"])
    writer.add_description(
        "Skerry's small base model for CPUs: simple English about inference fleets. Trained on"
        f" templates of its own and on the docstrings of CPython {platform.python_version()}"
        " (PSF-2.0), by tools/base_model"
    )
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_sampling_temp(DEFAULT_TEMPERATURE)
    writer.add_sampling_top_k(DEFAULT_TOP_K)
    writer.add_sampling_top_p(DEFAULT_TOP_P)


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    printable = printable_bytes()
    plain = BYTES + len(tokenizer.merges)
    spelt = ["".join(printable[byte] for byte in text) for text in tokenizer.byte_strings()[:plain]]
    kinds = [gguf.TokenType.NORMAL] * plain + [gguf.TokenType.CONTROL] * len(tokenizer.specials)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*spelt, *tokenizer.specials])
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{spelt[left]} {spelt[right]}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.special(DOCUMENT_START))
    writer.add_eos_token_id(tokenizer.special(TURN_END))
    writer.add_pad_token_id(tokenizer.special(DOCUMENT_START))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _named_tensors(network: Network) -> list[tuple[str, Tensor]]:
    # There is no output.weight: llama.cpp then uses the embedding, as the network does.
    tensors = [("token_embd.weight", network.embedding.weight)]
    for number, block in enumerate(network.blocks):
        ours = dict(block.named_parameters())
        tensors += [
            (f"blk.{number}.{theirs}.weight", ours[f"{name}.weight"])
            for name, theirs in BLOCK_TENSORS.items()
        ]
    return [*tensors, ("output_norm.weight", network.norm.weight)]


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor) -> None:
    values = tensor.detach().numpy().astype(np.float32)
    if values.ndim == 1:
        writer.add_tensor(name, values)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
