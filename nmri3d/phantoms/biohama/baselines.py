"""Baselines of equal size: LSTM, GRU and a causal transformer.

Convention. As the network: operations and symbols int64 [batch, steps] to logits [batch, steps, outputs], no answers shown.
`matched` chooses the free width so that the parameter count is within 2 % of a given one. The transformer has three pre-norm
layers and linear biases for distance instead of positions (ALiBi, Press et al. 2022), because that is the variant that reads
programs longer than it was trained on.

Left out: memory-augmented baselines.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from nmri3d.phantoms.biohama.language import OPERATIONS, OUTPUTS, SYMBOLS

BASELINES = ("lstm", "gru", "transformer")
CLOSE = 0.02
_HEADS, _LAYERS, _EMBEDDED = 4, 3, 32


class Recurrent(nn.Module):
    """An LSTM or GRU of one layer."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], hidden: int) -> None:
        super().__init__()
        self.operation = nn.Embedding(len(OPERATIONS), _EMBEDDED)
        self.symbol = nn.Embedding(1 + len(SYMBOLS), _EMBEDDED)
        self.cell = cell(_EMBEDDED, hidden, batch_first=True)
        self.out = nn.Linear(hidden, len(OUTPUTS))

    def forward(self, operations: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.cell(self.operation(operations) + self.symbol(symbols))
        return self.out(hidden)


class Block(nn.Module):
    """Attention and MLP, each after a norm and added."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, stream: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, steps, width = stream.shape
        split = self.qkv(self.attention_norm(stream)).view(batch, steps, 3, _HEADS, width // _HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        stream = stream + self.joined(attended.transpose(1, 2).reshape(batch, steps, width))
        return stream + self.mlp(self.mlp_norm(stream))


class Transformer(nn.Module):
    """A causal transformer with linear distance biases; `inner` is the width of its MLPs."""

    WIDTH = 48

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.operation = nn.Embedding(len(OPERATIONS), self.WIDTH)
        self.symbol = nn.Embedding(1 + len(SYMBOLS), self.WIDTH)
        self.blocks = nn.ModuleList(Block(self.WIDTH, inner) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(self.WIDTH)
        self.out = nn.Linear(self.WIDTH, len(OUTPUTS))

    def forward(self, operations: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        stream = self.operation(operations) + self.symbol(symbols)
        steps = torch.arange(operations.shape[1])
        distance = (steps[:, None] - steps).float()
        slopes = 2.0 ** (-8.0 * (torch.arange(_HEADS) + 1) / _HEADS)
        bias = (-slopes[:, None, None] * distance).masked_fill(distance < 0, -torch.inf)
        for block in self.blocks:
            stream = block(stream, bias)
        return self.out(self.norm(stream))


def matched(name: str, n_params: int) -> nn.Module:
    """A baseline with fresh weights and n_params parameters to within 2 %. Raises ValueError where no width gives that."""
    make: dict[str, Callable[[int], nn.Module]] = {
        "lstm": lambda size: Recurrent(nn.LSTM, size),
        "gru": lambda size: Recurrent(nn.GRU, size),
        "transformer": Transformer,
    }
    low, high = 1, 4096
    with torch.device("meta"):
        while low < high:  # the smallest width with at least as many parameters
            middle = (low + high) // 2
            low, high = (low, middle) if count(make[name](middle)) >= n_params else (middle + 1, high)
        size = min((low, max(1, low - 1)), key=lambda width: abs(count(make[name](width)) - n_params))
    network = make[name](size)
    if abs(count(network) - n_params) > CLOSE * n_params:
        raise ValueError(f"no {name} has {n_params:,} parameters to within {CLOSE:.0%}")
    return network


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
