"""DTI, Data Tractography Imaging: which components and which paths carry the answer.

Convention. The metric m is the logit of the target minus that of the foil at one position. Node scores, by `method`
(positive supports the target; formulas in `nmri3d.scans.attribution`):

    exact  the intervention itself; `auto` takes it where it is estimated to need no more than AFFORDABLE seconds
    atp    attribution patching, a first-order preview; what `auto` takes where exact is too slow
    dla    direct logit attribution, the exact split of the logit difference before any softcap

`effect` says what replaces a write: "patch" (the corrupted prompt's, default where there is one), "mean" (the template's,
default where there is none) or "zero". They measure different things; the result names the one that was used.

Edges (`tracts`) come from edge attribution patching (`nmri3d.scans.edges`). The circuit drawn by default is the fewest
edges that carry `share` of the total |score|; how much of the metric it keeps when all else is replaced is its
faithfulness (`nmri3d.perturbation.paths`).

A network without a residual stream has node scores of its parts alone: `nmri3d.scans.unit_dti`.

Left out: attention patterns (`ResidualBackend.attention`), and sets of nodes.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, Stimulus, no_progress
from nmri3d.models.progress import part
from nmri3d.models.residual_backend import ResidualBackend, as_residual
from nmri3d.models.unit_backend import as_units
from nmri3d.perturbation.baselines import Baseline, baseline
from nmri3d.perturbation.estimate import replay_estimate
from nmri3d.perturbation.metric import LogitDifference, logit_difference
from nmri3d.perturbation.paths import faithfulness
from nmri3d.perturbation.sweep import chosen_rows, replacements, sweep_values
from nmri3d.results import Scan, Tracts
from nmri3d.scans.attribution import attribution_patching, direct_logit_attribution
from nmri3d.scans.dti_config import AFFORDABLE, DtiConfig
from nmri3d.scans.dti_result import dti_scan
from nmri3d.scans.edges import GradientPass, edge_attribution, integrated_passes
from nmri3d.scans.unit_dti import scan_unit_dti

KEPT_EDGES = 20_000
"""Edges of largest |score| that a scan keeps; the sum over all is kept beside them."""


def scan_dti(model: Backend, prompt: str, config: DtiConfig, *, progress: Progress = no_progress) -> Scan:
    """Return a Scan with signed float32 values [1, components] and, where edges were asked for, `tracts`.

    details: prompt_tokens str [steps]; position, target, foil int64 (token ids); clean_metric and baseline_metric float64
    (the metric with every component replaced; NaN without edges); faithfulness float64 of the circuit of
    `tracts.pruned(share)`; per_position float32 [steps, components] (atp only); remainder float64 (dla: logit difference
    before the softcap minus the sum of all rows).

    Raises InputError for options that do not fit, UnsupportedModelError for edges of an attention that is not known.
    """
    started = time.perf_counter()
    if "gradient" not in model.abilities:
        raise InputError(f"a DTI scan needs a model with 'gradient', which {model.info.title} has not")
    whole = as_residual(model)
    if whole is None:
        return scan_unit_dti(as_units(model), prompt, config, progress)
    return _scan(whole, prompt, config if config.edges is not None else replace(config, edges="eap"), started, progress)


def _scan(model: ResidualBackend, prompt: str, config: DtiConfig, started: float, progress: Progress) -> Scan:
    stimulus = model.stimulus(prompt)
    progress(0.0, "running the baseline")
    chosen = baseline(model, stimulus, config.effect, config.corrupt, progress=part(progress, 0.0, 0.2))
    progress(0.2, "running the prompt")
    clean, metric = _clean_pass(
        model, stimulus, config, needs_gradient=config.edges != "none" or config.method == "atp"
    )
    details: dict[str, np.ndarray] = {}
    tracts = None
    if config.edges != "none":
        tracts, found = _edges(model, stimulus, clean, chosen, metric, config, part(progress, 0.3, 0.6))
        details |= found
    method, values, found = _nodes(model, clean, chosen, metric, config, part(progress, 0.6, 1.0))
    details |= found
    progress(1.0, "done")
    measured = metric.of(clean.recording)
    return dti_scan(model, stimulus, config, started, metric, measured, chosen.effect, method, values, details, tracts)


def _clean_pass(
    model: ResidualBackend, stimulus: Stimulus, config: DtiConfig, *, needs_gradient: bool
) -> tuple[GradientPass, LogitDifference]:
    """The clean run, with gradients where needed, and the metric: its tokens follow from the run itself."""
    chosen: list[LogitDifference] = []

    def metric(final: torch.Tensor) -> torch.Tensor:
        chosen.append(logit_difference(model, final, config.target, config.foil, config.position))
        return chosen[0].of_steps(final)

    if needs_gradient:
        clean = GradientPass(*model.gradients(stimulus, metric))
    else:
        clean = GradientPass(model.record(stimulus), ())
        metric(clean.recording.at(-1))
    return clean, chosen[0]


def _nodes(
    model: ResidualBackend,
    clean: GradientPass,
    chosen: Baseline,
    metric: LogitDifference,
    config: DtiConfig,
    progress: Progress,
) -> tuple[str, np.ndarray, dict[str, np.ndarray]]:
    """The method used, node scores [components], and details."""
    rows, method = chosen_rows(model, None), config.method
    if method == "auto":
        _, edits = replacements(model, clean.recording, chosen, rows)
        seconds = replay_estimate(model, clean.recording, edits, metric.of_rows, metric.position)
        method = "exact" if seconds <= AFFORDABLE or not clean.gradients else "atp"
    if method == "exact":
        return method, -sweep_values(model, clean.recording, chosen, metric, rows, progress=progress), {}
    if method == "atp":
        progress(0.0, "attribution patching")
        by_position = attribution_patching(model, clean.recording, clean.gradients, chosen)
        return method, by_position.sum(axis=0), {"per_position": by_position}
    progress(0.0, "direct logit attribution")
    values = direct_logit_attribution(model, clean.recording, metric)
    remainder = metric.of_linear(clean.recording) - values.sum(dtype=np.float64)
    return method, values, {"remainder": np.asarray(remainder)}


def _edges(
    model: ResidualBackend,
    stimulus: Stimulus,
    clean: GradientPass,
    chosen: Baseline,
    metric: LogitDifference,
    config: DtiConfig,
    progress: Progress,
) -> tuple[Tracts, dict[str, np.ndarray]]:
    """Tracts, and how faithful the circuit drawn by default is."""
    passes = [clean]
    if config.edges == "eap-ig":
        assert chosen.recording is not None
        passes = integrated_passes(
            model, stimulus, metric.of_steps, chosen.recording, config.steps, part(progress, 0.0, 0.5)
        )
    tracts = edge_attribution(
        model, clean.recording, passes, chosen, keep=KEPT_EDGES, progress=part(progress, 0.5, 0.8)
    )
    kept, without = faithfulness(
        model, clean.recording, chosen, metric, tracts.pruned(config.share), progress=part(progress, 0.8, 1.0)
    )
    return tracts, {"faithfulness": np.asarray(kept), "baseline_metric": np.asarray(without)}
