"""A plain transformer of SPROUT's size, trained on the same prefixes: what sparseness and rounds are compared with.

Convention. SPROUT's encoder blocks, wider and one more of them, read out at the last token of the prefix; parameters within
2 % of SPROUT's.

Left out: a causal mask, which would let one pass train on all prefixes of a sentence: both see the same prefixes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmri3d.phantoms.sprout.encoder import EncoderBlock, normal, rms_norm
from nmri3d.phantoms.sprout.lexicon import VOCABULARY

WIDTH, HEADS, LAYERS, HIDDEN, CONTEXT = 112, 4, 3, 476, 24


class PlainTransformer(nn.Module):
    """Tokens int64 [batch, tokens], padding below 0, to logits [batch, vocabulary]."""

    def __init__(self) -> None:
        super().__init__()
        self.W_E, self.W_pos = normal(len(VOCABULARY), WIDTH, std=1.0), normal(CONTEXT, WIDTH, std=0.5)
        self.blocks = nn.ModuleList(EncoderBlock(WIDTH, HEADS, HIDDEN) for _ in range(LAYERS))
        self.W_U, self.b_U = normal(WIDTH, len(VOCABULARY), std=WIDTH**-0.5), nn.Parameter(torch.zeros(len(VOCABULARY)))

    def hidden(self, tokens: Tensor) -> Tensor:
        """The normalized residual of the last token, [batch, WIDTH]."""
        padding = tokens < 0
        x = self.W_E[tokens.clamp(min=0)] + self.W_pos[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, padding)
        last = (~padding).sum(1) - 1
        return rms_norm(x[torch.arange(len(x)), last])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.hidden(tokens) @ self.W_U + self.b_U
