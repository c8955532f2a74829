"""Reading the activation of every part in one pass, reduced to a number or whole.

Convention. As `nmri3d.models.unit_backend` says: a part that acts once a pass is active at step 0, where its activation is
the mean over its entries, and NaN at every other step. Reductions: `l2_norm` the Euclidean norm, signed for a part of one
unit; `max` the largest |unit|, `mean` the mean |unit|; `whole` the units themselves, NaN beyond a part's own width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nmri3d.models.backend import Reducer, Reduction, Run
from nmri3d.phantoms.passes import Site
from nmri3d.phantoms.phantom import Part

_REDUCE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "l2_norm": lambda units: units[..., 0] if units.shape[-1] == 1 else torch.linalg.vector_norm(units, dim=-1),
    "max": lambda units: units.abs().amax(dim=-1),
    "mean": lambda units: units.abs().mean(dim=-1),
}


@dataclass(frozen=True, eq=False)
class ActivityPlan:
    """See `nmri3d.models.backend.WritePlan`."""

    reads: Mapping[str, Reducer]
    collect: Callable[[Run], np.ndarray]


def activity_plan(
    parts: Sequence[Part], rows: Sequence[int], sites: Mapping[str, Site], d_model: int, reduction: Reduction
) -> ActivityPlan:
    """Plan to read the parts of these rows; the others are NaN."""
    clock = next(name for name, site in sites.items() if not site.once)
    rows_of: dict[str, list[int]] = {}
    for row in rows:
        rows_of.setdefault(parts[row].site, []).append(row)

    def collect(run: Run) -> np.ndarray:
        whole = reduction == "whole"
        shape = (len(run.reads[clock]), len(parts), *([d_model] if whole else []))
        values = np.full(shape, np.nan, np.float32)
        for name, own in rows_of.items():
            units = _by_part(run.reads[name], sites[name], [parts[row].column for row in own])
            if whole:
                values[: len(units), own, : units.shape[-1]] = units.numpy()
            else:
                values[: len(units), own] = _REDUCE[reduction](units).numpy()
        return values

    return ActivityPlan(dict.fromkeys([clock, *rows_of], lambda passing: passing.float().cpu()), collect)


def _by_part(passing: torch.Tensor, site: Site, columns: Sequence[int | None]) -> torch.Tensor:
    """Activations [steps, parts, units] of some parts of a site, or [1, parts, units] where it passes once a pass."""
    if site.once:
        passing = passing.mean(dim=0, keepdim=True)
    if not site.has_columns:
        return passing[:, None]
    chosen = passing[:, [column for column in columns if column is not None]]
    return chosen[..., None] if site.scalar else chosen
