"""DTI of a network without a residual stream: how much of the metric each part is answerable for.

Convention. As `nmri3d.scans.dti`, with a the activation of a part and b what replaces it:

    exact  m(clean) - m(clean with a replaced by b), the intervention itself; what `auto` takes unless it is estimated to
           need more than AFFORDABLE seconds
    atp    sum over steps of (a - b) . dm/da at the clean run, to first order. Where a part feeds itself at later steps the
           gradient follows that way too, whereas exact replaces what arrives there: then atp is that of a shift of the
           part's activation, not of its replacement

The metric is a logit difference, or of signals the value of one output, or of one less another. There is no sum of writes to
split (dla) and there are no edges: both are refused.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from nmri3d.models.backend import Progress, Stimulus
from nmri3d.models.progress import part
from nmri3d.models.residual_backend import require
from nmri3d.models.unit_backend import Activity, UnitBackend
from nmri3d.perturbation.metric import OutputMetric, output_metric
from nmri3d.perturbation.sweep import chosen_rows
from nmri3d.perturbation.unit_sweep import (
    UnitBaseline,
    unit_baseline,
    unit_estimate,
    unit_replacements,
    unit_sweep_values,
)
from nmri3d.results import Scan
from nmri3d.scans.dti_config import DtiConfig
from nmri3d.scans.dti_result import dti_scan

AFFORDABLE = 30.0
"""Seconds that an exact sweep may take for "auto" to choose it: there are no edges beside it to be waited for."""


def scan_unit_dti(model: UnitBackend, prompt: str, config: DtiConfig, progress: Progress) -> Scan:
    """Return a Scan with signed float32 values [1, components].

    details: prompt_tokens str [steps]; position, target, foil int64 (ids; foil -1 where the metric has none); clean_metric
    float64; baseline_metric and faithfulness NaN, since there are no edges; per_position float32 [steps, components] (atp).

    Raises InputError for options that do not fit.
    """
    started = time.perf_counter()
    if config.method == "dla":
        require(model, "dla")
    if config.edges not in (None, "none"):
        require(model, "edges")
    stimulus = model.stimulus(prompt)
    progress(0.0, "running the baseline")
    chosen = unit_baseline(model, stimulus, config.effect, config.corrupt, progress=part(progress, 0.0, 0.3))
    progress(0.3, "running the stimulus")
    activity = model.observe(stimulus)
    metric = output_metric(model, activity.outputs, config.target, config.foil, config.position)
    method, values, found = _nodes(model, stimulus, activity, chosen, metric, config.method, part(progress, 0.4, 1.0))
    progress(1.0, "done")
    measured = float(metric.of(activity.outputs))
    return dti_scan(model, stimulus, config, started, metric, measured, chosen.effect, method, values, found)


def _nodes(
    model: UnitBackend,
    stimulus: Stimulus,
    activity: Activity,
    chosen: UnitBaseline,
    metric: OutputMetric,
    method: str,
    progress: Progress,
) -> tuple[str, np.ndarray, dict[str, np.ndarray]]:
    """The method used, node scores [components], and details."""
    if method != "atp":
        rows = chosen_rows(model, None)
        edits = unit_replacements(model, activity, chosen, rows)
        if method == "exact" or unit_estimate(model, stimulus, edits) <= AFFORDABLE:
            change = unit_sweep_values(model, stimulus, activity, edits, metric, rows, progress=progress)
            return "exact", -change, {}
    progress(0.0, "attribution patching")
    by_step = attribution(model, stimulus, chosen, metric)
    total = np.where(np.isnan(by_step), 0, by_step).sum(axis=0)
    return "atp", total, {"per_position": by_step}


def attribution(model: UnitBackend, stimulus: Stimulus, chosen: UnitBaseline, metric: OutputMetric) -> np.ndarray:
    """Float32 [steps, components]: (a - b) . dm/da of each part at each step; NaN at steps where it is silent.

    Of a part that acts once a pass, step 0 holds the sum over its entries.
    """
    activity, gradients = model.activity_gradients(stimulus, metric.of)
    values = np.full((len(stimulus), len(model.components)), np.nan, dtype=np.float32)
    for row, name in enumerate(model.components.ids):
        activation = model.part_of(activity.sites, row)
        moved = activation - chosen.of(model, row, activation)
        scores = torch.einsum("sw,sw->s", moved, model.part_of(gradients, row)).cpu().numpy()
        if model.target(name).once:
            values[0, row] = scores.sum()
        else:
            values[:, row] = scores
    return values
