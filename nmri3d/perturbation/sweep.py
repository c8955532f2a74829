"""Exact sweeps: every component replaced, one at a time, and the metric measured.

Convention. The metric is the logit of the target minus that of the foil at one position; a value is the metric of the
edited run minus that of the clean one: an intervention, not an approximation. `effect` says what replaces a write
(`nmri3d.perturbation.baselines`); zeroing and patching measure different things and are not to be mixed. A post-norm
keeps the scale of the unedited run. In a network without a residual stream the activations of parts are replaced
(`nmri3d.perturbation.unit_sweep`), and a metric of signals is the value of one output.

Cost. See `nmri3d.models.replay`: about a quarter of a pass a component where L layers stand above it on average.

Left out: sets of components at once; `nmri3d.perturbation.perturb` does that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.provenance import provenance
from nmri3d.models.recording import Recording
from nmri3d.models.replay import StreamEdit
from nmri3d.models.residual_backend import ResidualBackend, as_residual
from nmri3d.models.unit_backend import as_units
from nmri3d.perturbation.baselines import Baseline, baseline
from nmri3d.perturbation.estimate import Confirm, replay_with_estimate
from nmri3d.perturbation.metric import LogitDifference, Metric, logit_difference, output_metric
from nmri3d.perturbation.unit_sweep import unit_baseline, unit_replacements, unit_sweep_values
from nmri3d.results import Sweep


def ablate_all(
    model: Backend,
    prompt: str,
    *,
    target: str | int | None = None,
    foil: str | int | None = None,
    effect: str | None = "zero",
    corrupt: str | None = None,
    components: Sequence[str] | None = None,
    position: int = -1,
    confirm: Confirm | None = None,
    progress: Progress = no_progress,
) -> Sweep:
    """Replace every component (or those named) by itself; values are the change of the metric.

    target, foil  tokens as text or id; by default the likeliest next token and the runner-up (signals: one output, or
                  one less another)
    effect        "zero", "mean" or "patch" (from `corrupt`); None: "patch" with a corrupted prompt, "mean" without
    confirm       told the estimate in seconds before the run; False withdraws it

    Raises InputError for what does not fit, Cancelled where `confirm` refuses.
    """
    started = time.perf_counter()
    stimulus = model.stimulus(prompt)
    rows = chosen_rows(model, components)
    whole = as_residual(model)
    metric: Metric
    if whole is None:
        units = as_units(model)
        chosen_units = unit_baseline(units, stimulus, effect, corrupt, progress=progress)
        activity = units.observe(stimulus)
        metric = output_metric(units, activity.outputs, target, foil, position)
        edits = unit_replacements(units, activity, chosen_units, rows)
        change = unit_sweep_values(units, stimulus, activity, edits, metric, rows, confirm=confirm, progress=progress)
        effect, clean_metric = chosen_units.effect, float(metric.of(activity.outputs))
    else:
        chosen = baseline(whole, stimulus, effect, corrupt, progress=progress)
        recording = whole.record(stimulus)
        metric = logit_difference(whole, recording.at(-1), target, foil, position)
        change = sweep_values(whole, recording, chosen, metric, rows, confirm=confirm, progress=progress)
        effect, clean_metric = chosen.effect, metric.of(recording)
    config = {
        "effect": effect,
        "corrupt": corrupt,
        "target": metric.texts[0],
        "foil": metric.texts[1],
        "position": metric.position,
        "components": None if components is None else list(components),
    }
    return Sweep(
        values=change,
        components=model.components,
        units=f"change of the {metric.units}",
        clean_metric=clean_metric,
        target=metric.named[0],
        foil=metric.named[1],
        effect=effect,
        provenance=provenance(model, started, config, prompt),
    )


def chosen_rows(model: Backend, components: Sequence[str] | None) -> np.ndarray:
    """Rows of the named components, ascending; all that write (or, without a residual stream, act) where none are named."""
    table = model.components
    silent = (table.kind == "unembed") & ("residual" in model.abilities)
    if components is None:
        return np.flatnonzero(~silent)
    if isinstance(components, str) or not components:
        raise InputError(
            f"components is a list of ids such as ['blocks.3.attn.head_7'], or None for all; got {components!r}"
        )
    rows = np.unique([table.row(name) for name in components])
    if silent[rows].any():
        raise InputError("unembed writes nothing to the residual stream, so it cannot be replaced; leave it out")
    return rows


def sweep_values(
    model: ResidualBackend,
    recording: Recording,
    chosen: Baseline,
    metric: LogitDifference,
    rows: np.ndarray,
    *,
    confirm: Confirm | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Change of the metric, float32 [components], when each of `rows` is replaced; NaN on the others."""
    edited, edits = replacements(model, recording, chosen, rows)
    found = replay_with_estimate(
        model, recording, edits, metric.of_rows, step=metric.position, confirm=confirm, progress=progress
    )
    values = np.full(len(model.components), np.nan, dtype=np.float32)
    values[rows] = 0.0  # a write that equals its replacement changes nothing
    values[edited] = found.double().cpu().numpy() - metric.of(recording)
    return values


def replacements(
    model: ResidualBackend, recording: Recording, chosen: Baseline, rows: np.ndarray
) -> tuple[list[int], list[StreamEdit]]:
    """The rows whose write differs from its replacement, and the edit that replaces each."""
    table = model.components
    edited: list[int] = []
    edits: list[StreamEdit] = []

    def add(row: int, delta: torch.Tensor) -> None:
        differs = torch.nonzero((delta != 0).any(dim=-1))
        if len(differs):  # causal: steps before the first difference stay as they are
            start = int(differs[0])
            edited.append(row)
            edits.append(StreamEdit(model.entry_point(row), start, delta[start:].to(recording.at(0).dtype)))

    wanted = set(rows.tolist())
    embed = table.row("embed")
    if embed in wanted:
        writes = model.writes(recording, embed)
        add(embed, chosen.embed(model, writes) - writes)
    for layer in np.unique(table.layer[rows][table.layer[rows] >= 0]).tolist():
        layer_rows, writes = model.layer_writes(recording, layer)
        delta = chosen.layer(model, layer, writes) - writes
        for column, row in enumerate(layer_rows.tolist()):
            if row in wanted:
                add(row, delta[:, column])
    return edited, edits
