"""The folder that programs of the Hugging Face world expect beside weights, made from a GGUF.

They tokenize by themselves and send token ids, so the vocabulary must be the engine's own.
"""

import json
from pathlib import Path
from typing import Any

from gguf import GGUFReader

_NORMAL = 1  # llama.cpp's type of a token that is plain text


def write_hub_folder(gguf: Path, folder: Path) -> None:
    """Write tokenizer and configuration of a byte-level BPE model into the folder."""
    fields = GGUFReader(gguf).fields

    def value(name: str) -> Any:
        return fields[name].contents()

    tokens, merges = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges")
    special = [
        {"id": number, "content": tokens[number], "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for number, kind in enumerate(value("tokenizer.ggml.token_type"))
        if kind != _NORMAL
    ]
    bytes_of_text = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    begin, end = value("tokenizer.ggml.bos_token_id"), value("tokenizer.ggml.eos_token_id")
    context = value("llama.context_length")
    folder.mkdir(parents=True)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {**bytes_of_text, "use_regex": True},
        "post_processor": None,
        "decoder": {**bytes_of_text, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": merges,
        },
    }
    files = {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokens[begin],
            "eos_token": tokens[end],
            # llama.cpp puts the begin token first by itself; here the template has to.
            "chat_template": "{{- bos_token -}}" + value("tokenizer.chat_template"),
            "model_max_length": context,
        },
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "bos_token_id": begin,
            "eos_token_id": end,
            "max_position_embeddings": context,
            "vocab_size": len(tokens),
        },
        "generation_config.json": {"bos_token_id": begin, "eos_token_id": end},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
