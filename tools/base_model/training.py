"""Fits the network to the corpus: packs documents into batches, steps, reports the loss.

Called by `tools/make_base_model.py`. One thread and fixed seeds, so that a second run on the same
kind of processor makes the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor
from torch.nn import functional as F

from tools.base_model.corpus import SPECIAL_TOKENS, Part, Sources, documents
from tools.base_model.network import Network, Shape
from tools.base_model.tokenizer import Tokenizer, train_tokenizer

# With 1,536 tokens English comes to 4.1 characters a token; with 1,024 to 3.5.
VOCABULARY_SIZE = 1536
TOKENIZER_DOCUMENTS = 6000
TOKENIZER_SEED = 7
TRAINING_SEED = 11
HELD_OUT_SEED = 13

BATCH_TOKENS = 4096
# Short windows train twice as fast as the longest; the long ones teach far distances up to 2,048.
WINDOW_TOKENS = (256, 256, 512, 256, 256, 512, 256, 256, 512, 2048)
WARM_UP_STEPS = 20
MATRIX_RATE = 0.02
OTHER_RATE = 0.004
GRADIENT_NORM_MAX = 1.0
HELD_OUT_BATCHES = 12
REPORT_EVERY_STEPS = 50
# The label that cross_entropy leaves out.
NOT_LEARNED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained network and the mean loss in nats per token on documents it never saw."""

    network: Network
    held_out_loss: float


def make_tokenizer(sources: Sources) -> Tokenizer:
    """Return the tokenizer learned from the first documents of a seed of its own."""
    sample = islice(documents(sources, TOKENIZER_SEED), TOKENIZER_DOCUMENTS)
    texts = ("".join(part.text for part in document) for document in sample)
    return train_tokenizer(texts, VOCABULARY_SIZE, SPECIAL_TOKENS)


def fit(sources: Sources, tokenizer: Tokenizer, steps: int) -> Fitted:
    """Return the network after `steps` batches of BATCH_TOKENS tokens each."""
    torch.set_num_threads(1)
    torch.manual_seed(TRAINING_SEED)
    torch.use_deterministic_algorithms(True)
    network = Network(Shape(vocabulary=tokenizer.size))
    matrices = [p for p in network.blocks.parameters() if p.dim() == 2]
    others = [p for p in network.parameters() if all(p is not matrix for matrix in matrices)]
    # Muon learns the matrices in about half the steps AdamW needs; it is not meant for the rest.
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    for step, batch in enumerate(islice(batches(sources, tokenizer, TRAINING_SEED), steps)):
        share = min((step + 1) / WARM_UP_STEPS, 1.0) * (1.0 - step / steps)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * share
        loss = batch_loss(network, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM_MAX)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % REPORT_EVERY_STEPS == 0:
            print(f"step {step + 1}/{steps} loss {loss.item():.3f}", flush=True)
    return Fitted(network=network, held_out_loss=held_out_loss(network, sources, tokenizer))


def held_out_loss(network: Network, sources: Sources, tokenizer: Tokenizer) -> float:
    """Return the mean loss in nats per learned token on unseen documents."""
    unseen = islice(batches(sources, tokenizer, HELD_OUT_SEED), HELD_OUT_BATCHES)
    with torch.no_grad():
        losses = [batch_loss(network, batch).item() for batch in unseen]
    return float(sum(losses) / len(losses))


def batch_loss(network: Network, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean loss in nats over the learned tokens of `batch` (tokens, labels)."""
    tokens, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(tokens)
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=NOT_LEARNED)


def batches(sources: Sources, tokenizer: Tokenizer, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (tokens, labels) without end, each BATCH_TOKENS tokens in windows of varied length."""
    stream = documents(sources, seed)
    for length in cycle(WINDOW_TOKENS):
        rows = [window(stream, tokenizer, length + 1) for _ in range(BATCH_TOKENS // length)]
        tokens = torch.tensor([[token for token, _ in row] for row in rows])
        labels = torch.tensor([[label for _, label in row] for row in rows])
        yield tokens[:, :-1], labels[:, 1:]


def window(
    stream: Iterator[tuple[Part, ...]], tokenizer: Tokenizer, length: int
) -> list[tuple[int, int]]:
    """Return `length` (token, label) pairs that begin at a document's start, as prompts do."""
    pairs: list[tuple[int, int]] = []
    while len(pairs) < length:
        for part in next(stream):
            tokens = tokenizer.encode(part.text)
            pairs += [(token, token if part.learned else NOT_LEARNED) for token in tokens]
    return pairs[:length]
