"""The flat baseline: a gated recurrent unit that predicts the next token, with as many parameters as the world model."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nmri3d.phantoms.world_model.lexicon import WORDS
from nmri3d.phantoms.world_model.model import Config, WorldModel


class FlatModel(nn.Module):
    """Embedding, one GRU layer, decoder. Source: K. Cho et al. (2014), as in `torch.nn.GRU`."""

    def __init__(self, hidden: int, embedding: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), embedding)
        self.recurrent = nn.GRU(embedding, hidden, batch_first=True)
        self.decoder = nn.Linear(hidden, len(WORDS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the next word, float32 [batch, steps, words]."""
        return self.decoder(self.recurrent(self.embed(tokens))[0])


def flat_model(config: Config) -> FlatModel:
    """The flat model whose parameter count is nearest to that of a world model with this configuration."""
    wanted = size_of(WorldModel(config))
    return FlatModel(min(range(16, 512), key=lambda hidden: abs(_size(hidden) - wanted)))


def size_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _size(hidden: int, embedding: int = 64) -> int:
    return len(WORDS) * (embedding + hidden + 1) + 3 * hidden * (embedding + hidden + 2)


def flat_loss(model: FlatModel, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next token, for tokens int64 [batch, steps + 1]."""
    return functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
