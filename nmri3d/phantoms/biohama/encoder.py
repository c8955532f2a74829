"""Multi-modal encoder: one encoder a mode, all writing vectors of the same width.

Convention. The mode "sequence" reads a step of a program: an operation and a symbol. Vectors are normalized (LayerNorm).

Left out: graph and image modes. They would be encoders of their own among `modes`; nothing downstream knows of modes.
"""

from __future__ import annotations

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.errors import InputError


class SequenceMode(nn.Module):
    """Steps of a program, operations and symbols int64 [batch, steps], as vectors [batch, steps, width].

    `unknown` is the operation whose vector may be given from outside, a vector [batch, width] a program.
    """

    def __init__(self, operations: int, symbols: int, width: int, unknown: int) -> None:
        super().__init__()
        self.unknown = unknown
        self.operation = nn.Embedding(operations, width)
        self.symbol = nn.Embedding(symbols, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, operations: torch.Tensor, symbols: torch.Tensor, vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        words = self.operation(operations)
        if vectors is not None:
            words = torch.where((operations == self.unknown)[..., None], vectors[:, None], words)
        return self.norm(words + self.symbol(symbols))


class MultiModalEncoder(nn.Module):
    """Encoders by the name of their mode; `hook_out` passes what was encoded, a step at a time."""

    def __init__(self, modes: dict[str, nn.Module]) -> None:
        super().__init__()
        self.modes = nn.ModuleDict(modes)
        self.hook_out = HookPoint()

    def forward(self, mode: str, *inputs: torch.Tensor | None) -> torch.Tensor:
        """Encode inputs of a mode, [batch, steps, width]. Raises InputError for a mode that there is not."""
        if mode not in self.modes:
            raise InputError(f"BioHama has no encoder for mode {mode!r}; it reads {', '.join(self.modes)}")
        return self.modes[mode](*inputs)
