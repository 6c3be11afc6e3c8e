"""The small base model that ships with the project: what its file promises to llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

MODEL_FILE = Path(__file__).parents[2] / "examples" / "models" / "skerry-tiny.gguf"
FILE_BYTES_MAX = 3_000_000
CONTEXT_TOKENS = 2048


@pytest.fixture(scope="module")
def model() -> Any:
    """Return the shipped file, opened for reading (mapped, so this costs little)."""
    return gguf.GGUFReader(MODEL_FILE)


def field(model: Any, name: str) -> Any:
    """Return the value of a metadata field; fails the test when it is not there."""
    found = model.get_field(name)
    assert found is not None, f"{name} is missing"
    return found.contents()


def test_file_is_at_most_three_megabytes() -> None:
    assert MODEL_FILE.stat().st_size <= FILE_BYTES_MAX


def test_it_is_a_llama_with_the_promised_context(model: Any) -> None:
    assert field(model, "general.architecture") == "llama"
    assert field(model, "llama.context_length") == CONTEXT_TOKENS


def test_vocabulary_and_embeddings_have_the_same_size(model: Any) -> None:
    tokens = field(model, "tokenizer.ggml.tokens")
    embedding = next(tensor for tensor in model.tensors if tensor.name == "token_embd.weight")
    width = field(model, "llama.embedding_length")
    assert list(embedding.shape) == [width, len(tokens)]
    assert len(field(model, "tokenizer.ggml.token_type")) == len(tokens)
    assert field(model, "llama.vocab_size") == len(tokens)


def test_every_byte_has_a_token_so_that_no_text_is_refused(model: Any) -> None:
    tokens = field(model, "tokenizer.ggml.tokens")
    assert all(len(token) == 1 for token in tokens[:256])
    assert len(set(tokens)) == len(tokens)


def test_every_merge_joins_two_tokens_into_a_third(model: Any) -> None:
    tokens = set(field(model, "tokenizer.ggml.tokens"))
    for merge in field(model, "tokenizer.ggml.merges"):
        left, right = merge.split(" ")
        assert {left, right, left + right} <= tokens


def test_turns_end_with_the_end_of_text_token(model: Any) -> None:
    tokens = field(model, "tokenizer.ggml.tokens")
    assert tokens[field(model, "tokenizer.ggml.eos_token_id")] == "<|im_end|>"
    assert tokens[field(model, "tokenizer.ggml.bos_token_id")] == "<|endoftext|>"


def test_chat_template_marks_every_role(model: Any) -> None:
    template = field(model, "tokenizer.chat_template")
    assert "message['role']" in template
    assert "<|im_start|>assistant" in template
    assert "add_generation_prompt" in template


def test_file_names_its_licence_and_where_its_text_came_from(model: Any) -> None:
    assert field(model, "general.license") == "Apache-2.0"
    assert "PSF-2.0" in field(model, "general.description")
