"""Networks of units without an additive residual stream: what they offer beyond `Backend`.

Convention. A component is a part; its *activation* is a vector of `widths[row]` units at every step. A site passes once a
step, [steps, ...], or once a pass, [entries, ...]: such a part is active at step 0 alone, its activation is the mean over
its entries (one for each word that an encoder reads, say), and a replacement replaces every entry. Plans of writes
(`Backend.write_plan`) read activations: "whole" is [steps, components, d_model], NaN beyond a part's own width and at steps
where it is silent; "l2_norm" is the Euclidean norm, but a part of a single unit keeps its sign. The reads of all reductions
are the same, so that one pass serves several plans.

Left out: edges between parts; what a part does through others is in the exact effects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np

from nmri3d.models.backend import Backend, Progress, Reduction, Stimulus, no_progress

if TYPE_CHECKING:
    import torch

OfOutputs = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes outputs [steps, outputs] of one pass; returns a scalar, differentiably."""

BySite = Mapping[str, "torch.Tensor"]
"""A tensor for each site, [steps, ...] or [entries, ...]."""


@dataclass(frozen=True, eq=False)
class Activity:
    """One pass, kept whole: what passed each site, and outputs float32 [steps, outputs]."""

    sites: BySite
    outputs: torch.Tensor


@dataclass(frozen=True, eq=False)
class Replacement:
    """Values [entries, width] that take the place of one part's activation, at every step or entry."""

    row: int
    values: torch.Tensor


@runtime_checkable
class UnitBackend(Backend, Protocol):
    """A backend whose abilities do not hold "residual"; see the module's first lines."""

    widths: np.ndarray
    """int64 [components], units of each part."""
    signed: np.ndarray
    """bool [components], whether a part is a single unit that can be negative: by what it is, whatever it was seen to do."""

    def observe(self, stimulus: Stimulus) -> Activity:
        """One pass, kept whole."""
        ...

    def part_of(self, sites: BySite, row: int) -> torch.Tensor:
        """One part's share of what was kept (activations, or their gradients), [entries, width]."""
        ...

    def run_each(
        self, stimulus: Stimulus, replacements: Sequence[Replacement], progress: Progress = no_progress
    ) -> torch.Tensor:
        """Outputs float32 [replacements, steps, outputs] with each replacement by itself, many in one pass."""
        ...

    def activity_gradients(self, stimulus: Stimulus, metric: OfOutputs) -> tuple[Activity, BySite]:
        """One pass, and the gradient of a metric of its outputs at what passes each site, later steps included."""
        ...


def activity_units(model: Backend, reduction: Reduction) -> tuple[str, bool]:
    """The unit of reduced activations in words, and whether their sign means something: where single units keep one."""
    if reduction in ("max", "mean"):
        return {"max": "largest |unit| of the activation", "mean": "mean |unit| of the activation"}[reduction], False
    units = as_units(model)
    single, signed = units.widths == 1, bool(units.signed.any())
    if single.all():
        return "activation", signed
    return (
        "activation, its L2 norm where a part has several units" if single.any() else "L2 norm of the activation"
    ), signed


def as_units(model: Backend) -> UnitBackend:
    """The model, known to have no residual stream."""
    assert "residual" not in model.abilities, f"{model.info.title} has a residual stream"
    return cast(UnitBackend, model)
