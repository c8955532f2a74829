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
        """[heads, d_head, d_in]: what each head's features read, a view of the live weight."""
        by_output = by_input(self.module).T
        n_heads, d_head = self.rows.shape
        first, step = int(self.rows[0, 0]), int(self.rows[1, 0] - self.rows[0, 0]) if n_heads > 1 else d_head
        of_row, of_column = by_output.stride()
        return by_output.as_strided(
            (n_heads, d_head, by_output.shape[1]),
            (step * of_row, of_row, of_column),
            by_output.storage_offset() + first * of_row,
        )


def by_input(module: nn.Module) -> torch.Tensor:
    """The live weight of a projection as [in, out]; GPT-2's Conv1D keeps it so, Linear transposed."""
    weight = weight_of(module)
    return weight if type(module).__name__ == "Conv1D" else weight.T


def is_projection(module: nn.Module) -> bool:
    """Whether a module multiplies by one matrix: Linear, or GPT-2's Conv1D."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def projections(attn: nn.Module, n_heads: int, n_kv_heads: int, d_head: int) -> tuple[ProjectionRows, ...]:
    """Q, K and V of an attention module. Raises UnsupportedModelError for one that keeps them in another way."""
    parts = {name: part for name, part in attn.named_children() if is_projection(part)}
    q, kv = n_heads * d_head, n_kv_heads * d_head
    whole = {name: by_input(part).shape[1] for name, part in parts.items()}

    if [whole.get(name) for name in ("q_proj", "k_proj", "v_proj")] == [q, kv, kv]:
        return tuple(
            ProjectionRows(parts[name], torch.arange(whole[name]).unflatten(0, (-1, d_head)))
            for name in ("q_proj", "k_proj", "v_proj")
        )
    for name in ("c_attn", "qkv_proj"):
        if whole.get(name) == q + 2 * kv:
            features = torch.arange(q + 2 * kv)
            return tuple(
                ProjectionRows(parts[name], part.unflatten(0, (-1, d_head))) for part in features.split([q, kv, kv])
            )
    if whole.get("query_key_value") == 3 * q and n_kv_heads == n_heads:
        by_head = torch.arange(3 * q).reshape(n_heads, 3, d_head)
        return tuple(ProjectionRows(parts["query_key_value"], by_head[:, slot]) for slot in range(3))
    raise UnsupportedModelError(
        f"{type(attn).__name__} keeps its query, key and value projections in a way that nmri3d does not know "
        f"({', '.join(parts)}), so neither edges nor its weights can be shown; other scans can"
    )
