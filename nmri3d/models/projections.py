"""Where queries, keys and values come from: the projection modules of an attention, and each head's rows in them.

Convention. Families keep Q, K and V in three modules, in one with the three side by side (GPT-2 `c_attn`, Phi-3
`qkv_proj`), or in one with the three of each head together (GPT-NeoX `query_key_value`). `ProjectionRows.rows[h]` are the
output features of head h, of the K/V head h // group for keys and values.

Left out: attention that shares or compresses its projections in other ways (multi-head latent attention); it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nmri3d.errors import UnsupportedModelError
from nmri3d.models.sites import weight_of


@dataclass(frozen=True, eq=False)
class ProjectionRows:
    """One of Q, K, V: its module, and the output features of each of its heads, int64 [heads, d_head]."""

    module: nn.Module
    rows: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        """[heads, d_head, d_in]: what each head's features read, a copy where the family interleaves them."""
        weight = weight_of(self.module)
        by_output = weight.T if type(self.module).__name__ == "Conv1D" else weight
        return by_output[self.rows.to(weight.device)]


def projections(attn: nn.Module, n_heads: int, n_kv_heads: int, d_head: int) -> tuple[ProjectionRows, ...]:
    """Q, K and V of an attention module. Raises UnsupportedModelError for one that keeps them in another way."""
    parts = dict(attn.named_children())
    q, kv = n_heads * d_head, n_kv_heads * d_head

    def side_by_side(module: nn.Module) -> tuple[ProjectionRows, ...]:
        features = torch.arange(q + 2 * kv)
        return tuple(ProjectionRows(module, part.unflatten(0, (-1, d_head))) for part in features.split([q, kv, kv]))

    if {"q_proj", "k_proj", "v_proj"} <= parts.keys():
        return tuple(
            ProjectionRows(parts[name], torch.arange(width).unflatten(0, (-1, d_head)))
            for name, width in (("q_proj", q), ("k_proj", kv), ("v_proj", kv))
        )
    for name in ("c_attn", "qkv_proj"):
        if name in parts:
            return side_by_side(parts[name])
    if "query_key_value" in parts and n_kv_heads == n_heads:
        by_head = torch.arange(3 * q).reshape(n_heads, 3, d_head)
        return tuple(ProjectionRows(parts["query_key_value"], by_head[:, slot]) for slot in range(3))
    raise UnsupportedModelError(
        f"{type(attn).__name__} keeps its query, key and value projections in a way that nmri3d does not know "
        f"({', '.join(parts)}), so edges cannot be measured; node scores can"
    )
