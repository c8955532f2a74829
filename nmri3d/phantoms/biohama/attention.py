"""Hierarchical attention: over the last few steps, over the modules, over the whole past; and their learned fusion.

Convention. All levels ask with the vector of the present step. A key that is `age` steps old loses `slope * age` (slope
learned, positive), so that of equal keys the latest wins. The global level is sparse: it keeps the `sparse` best keys and
gives the others no weight. Fusion weighs the levels by the present step (softmax).

Left out: several heads.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint

LEVELS = ("local", "module", "global")


class Level(nn.Module):
    """One attention: query, key and value projections, and, where keys have an age, how fast the past fades."""

    def __init__(self, width: int, *, aged: bool) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.slope = nn.Parameter(torch.tensor(0.0)) if aged else None

    def forward(
        self, asking: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, keep: int | None = None
    ) -> torch.Tensor:
        """Attend from `asking` [batch, width] to keys and values [batch, n, width], the last key being of age 0."""
        n, width = keys.shape[1], keys.shape[2]
        scores = torch.einsum("bd,bnd->bn", self.query(asking), keys) / width**0.5
        if self.slope is not None:
            age = torch.arange(n - 1, -1, -1, device=scores.device, dtype=scores.dtype)
            scores = scores - functional.softplus(self.slope) * age
        if keep is not None and n > keep:
            least = scores.topk(keep, dim=1).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        return torch.einsum("bn,bnd->bd", scores.softmax(dim=1), values)


class Past:
    """Keys and values of the steps so far, for the local and the global level."""

    def __init__(self) -> None:
        self.keys: dict[str, list[torch.Tensor]] = {"local": [], "global": []}
        self.values: dict[str, list[torch.Tensor]] = {"local": [], "global": []}


class HierarchicalAttention(nn.Module):
    """Local window, modules, whole past; `hook_levels` passes the three [batch, 3, width], `hook_fused` their fusion."""

    def __init__(self, width: int, window: int, sparse: int, levels: tuple[str, ...]) -> None:
        super().__init__()
        self.window, self.sparse, self.enabled = window, sparse, levels
        self.levels = nn.ModuleDict({name: Level(width, aged=name != "module") for name in LEVELS})
        self.fusion = nn.Linear(width, len(LEVELS))
        self.hook_levels = HookPoint()
        self.hook_fused = HookPoint()

    def level(self, name: str) -> Level:
        """One level by its name."""
        return self.levels[name]  # type: ignore[return-value]

    def forward(self, asking: torch.Tensor, states: torch.Tensor, past: Past) -> torch.Tensor:
        """Context [batch, width] of a step [batch, width], given the modules' states [batch, modules, width]."""
        found = []
        for name in LEVELS:
            level = self.level(name)
            if name not in self.enabled:
                found.append(torch.zeros_like(asking))
            elif name == "module":
                found.append(level(asking, level.key(states), level.value(states)))
            else:
                past.keys[name].append(level.key(asking))
                past.values[name].append(level.value(asking))
                seen = slice(-self.window, None) if name == "local" else slice(None)
                keys, values = (torch.stack(kept[name][seen], dim=1) for kept in (past.keys, past.values))
                found.append(level(asking, keys, values, keep=self.sparse if name == "global" else None))
        levels = self.hook_levels(torch.stack(found, dim=1))
        weights = self.fusion(asking).softmax(dim=1)
        return self.hook_fused(torch.einsum("bl,bld->bd", weights, levels))
