"""Exact sweeps of a network without a residual stream: the activation of every part replaced by itself, many in one pass.

Convention. `effect` as in `nmri3d.perturbation.baselines`: "zero", "mean" (the template's, step 0 with that of step 0; there
is no first-token sink that would be spared) or "patch" (the activation on another stimulus). A part that acts once a pass is
replaced in all its entries, by "patch" entry by entry, for which both stimuli must give it equally many. A part whose
activation equals its replacement is not run: it changes nothing.

Cost. A pass for each part, `nmri3d.phantoms.backend.BATCH` of them at once; replacing a part changes all that follows it, so
nothing of the clean pass can be used again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from nmri3d.errors import Cancelled, InputError
from nmri3d.models.backend import Progress, Stimulus, no_progress
from nmri3d.models.unit_backend import Activity, Replacement, UnitBackend
from nmri3d.perturbation.baselines import require_effect
from nmri3d.perturbation.estimate import Confirm
from nmri3d.perturbation.metric import OutputMetric, require_same_length

PROBE = 128
"""Interventions that are timed to tell how long all will take."""


@dataclass(frozen=True, eq=False)
class UnitBaseline:
    """Replacement of activations: `other` on another stimulus for "patch", means of the template for "mean".

    mean, mean_first  [components, d_model], later steps and step 0
    """

    effect: str
    other: Activity | None = None
    mean: torch.Tensor | None = None
    mean_first: torch.Tensor | None = None

    def of(self, model: UnitBackend, row: int, activation: torch.Tensor) -> torch.Tensor:
        """What replaces one part's activation [entries, width]. Raises InputError where a patch has other entries."""
        if self.other is not None:
            patched = model.part_of(self.other.sites, row)
            if patched.shape != activation.shape:
                raise InputError(
                    f"{model.components.ids[row]} acts {len(activation)} times on the stimulus and {len(patched)} times on the "
                    "corrupted one, so it cannot be patched; give one on which it acts as often, or take mean or zero"
                )
            return patched
        if self.mean is None or self.mean_first is None:
            return torch.zeros_like(activation)
        width = activation.shape[1]
        replaced = self.mean[row, :width].to(activation).expand_as(activation).clone()
        once = model.target(model.components.ids[row]).once
        replaced[slice(None) if once else 0] = self.mean_first[row, :width].to(activation)
        return replaced


def unit_baseline(
    model: UnitBackend,
    stimulus: Stimulus,
    effect: str | None,
    corrupt: str | None,
    *,
    progress: Progress = no_progress,
) -> UnitBaseline:
    """The baseline of an effect; None is "patch" where there is a corrupted stimulus, else "mean".

    Raises InputError for an unknown effect, and for a corrupted stimulus that is missing, needless, of other steps or the same.
    """
    effect = require_effect(effect, corrupt)
    if corrupt is not None:
        other = model.stimulus(corrupt)
        require_same_length(model, stimulus, other)
        return UnitBaseline(effect, other=model.observe(other))
    if effect == "mean":
        from nmri3d.template import template_of

        template = template_of(model, progress=progress)
        return UnitBaseline(effect, mean=torch.tensor(template.mean), mean_first=torch.tensor(template.mean_first))
    return UnitBaseline(effect)


def unit_replacements(
    model: UnitBackend, activity: Activity, chosen: UnitBaseline, rows: np.ndarray
) -> list[Replacement]:
    """A replacement for each of the rows whose activation differs from it."""
    found = []
    for row in rows.tolist():
        activation = model.part_of(activity.sites, row)
        values = chosen.of(model, row, activation)
        if not torch.equal(values, activation):
            found.append(Replacement(row, values))
    return found


def unit_estimate(model: UnitBackend, stimulus: Stimulus, replacements: list[Replacement]) -> float:
    """Seconds that these interventions will take: some are run, the rest scaled; 0 for few, which need no asking."""
    if len(replacements) <= 2 * PROBE:
        return 0.0
    started = time.perf_counter()
    model.run_each(stimulus, replacements[:PROBE])
    return (time.perf_counter() - started) / PROBE * len(replacements)


def unit_sweep_values(
    model: UnitBackend,
    stimulus: Stimulus,
    activity: Activity,
    replacements: list[Replacement],
    metric: OutputMetric,
    rows: np.ndarray,
    *,
    confirm: Confirm | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Change of the metric, float32 [components], of `unit_replacements` of `rows`; NaN on other rows.

    Raises Cancelled where `confirm`, which is told the seconds, refuses.
    """
    if confirm is not None:
        seconds = unit_estimate(model, stimulus, replacements)
        progress(0.0, f"about {seconds:.0f} s for {len(replacements):,} interventions")
        if not confirm(seconds):
            raise Cancelled(f"The run of about {seconds:.0f} s was not started.")
    values = np.full(len(model.components), np.nan, dtype=np.float32)
    values[rows] = 0.0  # an activation that equals its replacement changes nothing
    found = metric.of(model.run_each(stimulus, replacements, progress)).cpu().double()  # MPS has no float64
    values[[each.row for each in replacements]] = (found - metric.of(activity.outputs).cpu().double()).numpy()
    return values
