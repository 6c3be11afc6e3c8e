"""The small llama-shaped network in torch, laid out as llama.cpp's `llama` arch expects it.

Called by `tools.base_model.training` (to fit it) and `tools.base_model.gguf_file` (to write it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Spread of fresh weights; the usual figure for networks of this depth, not tuned further.
INITIAL_DEVIATION = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of the network; widths are multiples of 32 because Q8_0 packs blocks of 32."""

    vocabulary: int
    width: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 3
    feed_forward: int = 512
    context_tokens: int = 2048
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.width % 32 or self.feed_forward % 32 or self.width % self.heads:
            raise ValueError("width and feed_forward must be multiples of 32, width of heads too")

    @property
    def head_width(self) -> int:
        """Return the width of one attention head."""
        return self.width // self.heads


class Attention(nn.Module):  # type: ignore[misc]
    """Causal grouped-query attention with rotary positions on neighbouring pairs."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, kv_width, bias=False)
        self.value = nn.Linear(shape.width, kv_width, bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return the attended values of `x` (batch, tokens, width)."""
        batch, tokens, width = x.shape
        heads, kv_heads, head_width = self.shape.heads, self.shape.kv_heads, self.shape.head_width
        q = self.query(x).view(batch, tokens, heads, head_width).transpose(1, 2)
        k = self.key(x).view(batch, tokens, kv_heads, head_width).transpose(1, 2)
        v = self.value(x).view(batch, tokens, kv_heads, head_width).transpose(1, 2)
        k = rotate(k, cosine, sine).repeat_interleave(heads // kv_heads, dim=1)
        v = v.repeat_interleave(heads // kv_heads, dim=1)
        y = F.scaled_dot_product_attention(rotate(q, cosine, sine), k, v, is_causal=True)
        attended: Tensor = self.output(y.transpose(1, 2).reshape(batch, tokens, width))
        return attended


class Block(nn.Module):  # type: ignore[misc]
    """One layer: attention, then a gated feed-forward, each with its norm and its bypass."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.attention = Attention(shape)
        self.feed_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return `x` after this layer."""
        x = x + self.attention(self.attention_norm(x), cosine, sine)
        y = self.feed_norm(x)
        fed: Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return fed


class Network(nn.Module):  # type: ignore[misc]
    """The whole network; the embedding is also the output matrix, which halves its cost."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                shrink = (2 * shape.layers) ** -0.5 if name.endswith(RESIDUAL_OUTPUTS) else 1.0
                nn.init.normal_(parameter, std=INITIAL_DEVIATION * shrink)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits that follow each of `tokens` (batch, tokens)."""
        x = self.embedding(tokens)
        cosine, sine = rotations(self.shape, tokens.shape[1])
        for block in self.blocks:
            x = block(x, cosine, sine)
        return F.linear(self.norm(x), self.embedding.weight)


# These feed the bypass once per layer, so their sum must not grow with the depth.
RESIDUAL_OUTPUTS = ("attention.output.weight", "down.weight")


def rotations(shape: Shape, tokens: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of every position's angles, (tokens, head_width / 2) each."""
    steps = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    angles = torch.outer(torch.arange(tokens, dtype=torch.float32), shape.rope_base**-steps)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return `x` with each neighbouring pair turned: the order llama.cpp uses for `llama`."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)
