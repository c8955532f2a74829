"""The hippocampus: what error to expect at a place in a context, remembered over trials.

Two traces a context, place cell and axis. The *estimate* is moved after a trial toward what was sensed there (delta rule,
each place cell by its share in the steps, "place blending"); after that the *consolidated* trace follows the estimate. What is
recalled at a place is a mix of both, weighted by the place cells. Both are slow by design: at most `Config.memory_rate` a
trial, whatever the training would like, since fast correction is the cerebellum's work. The remembered bias is applied once,
with gain 1.

Convention. What is stored is the uncorrected error, target - (sensed position - correction): the corrections' own share is
taken out by the copy of the command. So the memory learns the same whether or not the cerebellum acts; a test holds it to that.

`UniversalMemory` is the same memory for one machine, with NumPy in and out: retrieve, store, consolidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.errors import InputError
from nmri3d.phantoms.cerebellum.config import AXES, Config
from nmri3d.phantoms.cerebellum.grid import Grid5DEngine, PlaceCells


@dataclass(frozen=True, eq=False)
class Traces:
    """estimate and consolidated, float32 [batch, contexts, places, 5]; visits [batch, contexts, places], in trials."""

    estimate: torch.Tensor
    consolidated: torch.Tensor
    visits: torch.Tensor


class Hippocampus(nn.Module):
    """Rates of one trial, as logits of their share of the largest allowed, and the consolidated trace's share, each [5]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.shape = (config.contexts, config.places, len(AXES))
        self.fastest = config.memory_rate
        self.store_rate = nn.Parameter(torch.full((len(AXES),), 0.0))
        self.consolidation_rate = nn.Parameter(torch.full((len(AXES),), 0.0))
        self.share_consolidated = nn.Parameter(torch.full((len(AXES),), -1.0))
        self.hook_bias = HookPoint()

    def empty(self, batch: int, device: torch.device) -> Traces:
        """A memory of nothing."""
        none = torch.zeros(batch, *self.shape, device=device)
        return Traces(none, none, none[..., 0])

    def recall(self, traces: Traces, place: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Error to expect, [batch, 5], where the place cells fire as `place` [batch, places] in `context` [batch]."""
        here = torch.arange(len(context), device=context.device)
        estimate, consolidated = traces.estimate[here, context], traces.consolidated[here, context]
        share = torch.sigmoid(self.share_consolidated)
        return torch.einsum("bp,bpa->ba", place, (1 - share) * estimate + share * consolidated)

    def store(self, traces: Traces, places: torch.Tensor, errors: torch.Tensor, context: torch.Tensor) -> Traces:
        """Traces after a trial in which `errors` [batch, seen, 5] were sensed at `places` [batch, seen, places]."""
        here = torch.arange(len(context), device=context.device)
        known = traces.estimate[here, context]
        surprise = errors - torch.einsum("bsp,bpa->bsa", places, known)
        presence = places.sum(1)
        shift = torch.einsum("bsp,bsa->bpa", places, surprise) / (presence[..., None] + 0.2)
        estimate = traces.estimate.clone()
        estimate[here, context] = known + self.fastest * torch.sigmoid(self.store_rate) * shift
        visits = traces.visits.clone()
        visits[here, context] = visits[here, context] + presence / (presence + 0.2)
        return Traces(estimate, traces.consolidated, visits)

    def consolidate(self, traces: Traces, context: torch.Tensor) -> Traces:
        """Traces after a rest: in this context the consolidated trace follows the estimate."""
        here = torch.arange(len(context), device=context.device)
        old = traces.consolidated[here, context]
        consolidated = traces.consolidated.clone()
        rate = self.fastest * torch.sigmoid(self.consolidation_rate)
        consolidated[here, context] = old + rate * (traces.estimate[here, context] - old)
        return Traces(traces.estimate, consolidated, traces.visits)


class UniversalMemory:
    """The hippocampal memory of one machine. `context` is a mapping; its "context_id" (default 0) chooses the context."""

    def __init__(self, grid: Grid5DEngine, place: PlaceCells, hippocampus: Hippocampus) -> None:
        self._grid, self._place, self._hippocampus = grid, place, hippocampus
        self._synapses = place.synapses(grid).detach()
        self._device = grid.phase.device
        self.traces = hippocampus.empty(1, self._device)

    @torch.no_grad()
    def place_rates(self, state: np.ndarray) -> torch.Tensor:
        """Rates of the place cells at a position, [1, places]."""
        rates = self._grid(torch.as_tensor(state, dtype=torch.float32, device=self._device)[None])
        return self._place(self._grid, rates, self._synapses)

    @torch.no_grad()
    def retrieve(self, state: np.ndarray, context: dict[str, Any]) -> list[dict[str, Any]]:
        """What is remembered here, one entry; none where this context was never visited.

        bias [5] (error to expect, both traces mixed), consolidated_bias [5], place_id (the cell that fires most), context_id,
        confidence (trials, as weighted by the place cells).
        """
        place, chosen = self.place_rates(state), self._context(context)
        number = int(chosen[0])
        visits = float((place * self.traces.visits[:, number]).sum())
        if visits == 0:
            return []
        consolidated = torch.einsum("bp,bpa->ba", place, self.traces.consolidated[:, number])
        return [
            {
                "bias": self._hippocampus.recall(self.traces, place, chosen)[0].numpy(force=True),
                "consolidated_bias": consolidated[0].numpy(force=True),
                "place_id": int(place.argmax()),
                "context_id": number,
                "confidence": visits,
            }
        ]

    @torch.no_grad()
    def store(self, states: np.ndarray, context: dict[str, Any], errors: np.ndarray) -> None:
        """Keep the uncorrected errors [seen, 5] that a trial showed at states [seen, 5]."""
        places = torch.cat([self.place_rates(state) for state in np.atleast_2d(states)])[None]
        seen = torch.as_tensor(np.atleast_2d(errors), dtype=torch.float32, device=self._device)[None]
        self.traces = self._hippocampus.store(self.traces, places, seen, self._context(context))

    @torch.no_grad()
    def consolidate(self, context: dict[str, Any]) -> None:
        """Let the consolidated trace of this context follow the estimate: once after each trial."""
        self.traces = self._hippocampus.consolidate(self.traces, self._context(context))

    def _context(self, context: dict[str, Any]) -> torch.Tensor:
        return torch.tensor([context_number(context, self._hippocampus.shape[0])], device=self._device)


def context_number(context: dict[str, Any], contexts: int) -> int:
    """Number of a context, `context["context_id"]` (default 0). Raises InputError where the memory keeps no such context."""
    asked = context.get("context_id", 0)
    if asked not in range(contexts):
        raise InputError(
            f"there is no context {asked!r}: the memory keeps {contexts}, whose context_id is 0 to {contexts - 1}"
        )
    return int(asked)
