"""SPROUT's encoder: a small transformer over the prefix, pooled by attention into one vector.

Convention. Pre-norm blocks, RMS norms without parameters, no biases in attention. Padding (tokens below 0) is neither
attended to nor pooled. Hook points are named as in TransformerLens; they carry [batch, tokens, ...], the pool [batch, width].

Left out: a causal mask: the prefix is read as a whole, as the specification asks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint


def rms_norm(x: Tensor) -> Tensor:
    """x over its root mean square, along the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def normal(*shape: int, std: float) -> nn.Parameter:
    """A parameter drawn from a normal distribution, from torch's random state."""
    return nn.Parameter(torch.randn(*shape) * std)


class EncoderAttention(nn.Module):
    """Attention of every token to every token of the prefix; per-head matrices, as in TransformerLens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        size = width // heads
        self.W_Q, self.W_K, self.W_V = (normal(heads, width, size, std=width**-0.5) for _ in range(3))
        self.W_O = normal(heads, size, width, std=(2 * width) ** -0.5)
        self.hook_z = HookPoint()

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """x [batch, tokens, width]; padding bool [batch, tokens]."""
        q, k, v = (torch.einsum("bpd,hde->bhpe", x, weight) for weight in (self.W_Q, self.W_K, self.W_V))
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None, None, :])
        return torch.einsum("bphe,hed->bpd", self.hook_z(z.transpose(1, 2)), self.W_O)


class EncoderMLP(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.W_in, self.b_in = normal(width, hidden, std=width**-0.5), nn.Parameter(torch.zeros(hidden))
        self.W_out, self.b_out = normal(hidden, width, std=(2 * hidden) ** -0.5), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x @ self.W_in + self.b_in) @ self.W_out + self.b_out


class EncoderBlock(nn.Module):
    """Attention and MLP, each added to what it reads."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn, self.mlp = EncoderAttention(width, heads), EncoderMLP(width, hidden)
        self.hook_mlp_out = HookPoint()

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = x + self.attn(rms_norm(x), padding)
        return x + self.hook_mlp_out(self.mlp(rms_norm(x)))


class AttentionPool(nn.Module):
    """One learned query a head weighs the tokens of the prefix; the heads' means make one vector."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        size = width // heads
        self.query = normal(heads, size, std=1.0)
        self.W_K, self.W_V = (normal(heads, width, size, std=width**-0.5) for _ in range(2))
        self.W_O = normal(heads, size, width, std=width**-0.5)
        self.hook_pooled = HookPoint()

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        k, v = (torch.einsum("bpd,hde->bhpe", x, weight) for weight in (self.W_K, self.W_V))
        scores = torch.einsum("he,bhpe->bhp", self.query, k) * self.query.shape[1] ** -0.5
        weights = scores.masked_fill(padding[:, None, :], -torch.inf).softmax(-1)
        return self.hook_pooled(torch.einsum("bhp,bhpe,hed->bd", weights, v, self.W_O))


class Encoder(nn.Module):
    """Embeddings of tokens and positions, blocks, and the pool; [batch, tokens] int64 in, [batch, width] out."""

    def __init__(self, tokens: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.W_E, self.W_pos = normal(tokens, width, std=1.0), normal(context, width, std=0.5)
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, 4 * width) for _ in range(layers))
        self.pool = AttentionPool(width, heads)

    def block(self, layer: int) -> EncoderBlock:
        """The block of a layer."""
        block = self.blocks[layer]
        assert isinstance(block, EncoderBlock)
        return block

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens < 0
        x = self.hook_embed(self.W_E[tokens.clamp(min=0)] + self.W_pos[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x, padding)
        return self.pool(rms_norm(x), padding)
