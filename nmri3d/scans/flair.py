"""FLAIR, Feature-Level Anomaly Identification & Reporting: where a prompt is unlike the reference text.

At every layer and sub-layer the logit lens gives a distribution q, and the model itself P (`nmri3d.template.lens`):

    kl       KL(P || q), nats: how far the answer is still to go from here
    entropy  H(q), nats: how undecided the stream is here

Raw KL mostly says how rare the answer is, so both are taken against the template (`nmri3d.template`): what is left of them
after a line over the rarity `c = -sum P log u` is ranked among the reference text's own, within strata of positions {0},
{1 to 3}, {4 on}. The score, 0 to 100, is

    score = (alpha * percentile(kl) + beta * percentile(entropy)) / (alpha + beta)         alpha 0.6, beta 0.4

A high score means: at this depth the stream is further from its answer, and less decided, than in ordinary text whose
answer is as rare. Half of all ordinary points are above 50, one of twenty is above 95. It does **not** mean "wrong": on 235
answers of SmolLM2 to questions fixed before, the summary was *lower* for wrong answers than for right ones (AUROC 0.38
[0.30, 0.45]; within facts, arithmetic and syntax 0.52 [0.43, 0.61]), while 1 - the largest probability told them apart (0.74
[0.68, 0.81]); `nmri3d.bench.flair` repeats this. Nor does it mean "strange input": percentiles are one-sided, and a line of
random letters scored as high as prose. Where that is the question, read the final entropy and 1 - max probability beside it.

The last row is the model's own distribution: its KL is 0 by definition and NaN here, so its score is the percentile of
the entropy alone, and it does not count in the summary.

Values: a head (and an attention bias) has the score of the point after its attention, an MLP that of the point after its
block, parallel blocks share the latter: a head shows its *sub-layer's* value, not its own doing (`nmri3d.scans.own_effect`
measures that). `embed` and `unembed` are NaN. `summary` is the mean score over the enabled rows: the second half of the layers
unless told otherwise, since early rows hardly speak the language of the unembedding and were near chance in trials.

Without a template (`template="off"`, or "ready" where none is at hand) values are the raw KL in nats, percentiles and
scores NaN. A network without a lens is compared with its own activity: `nmri3d.scans.unit_flair`.

Cost: one pass and an unembedding a row and position. Does not show why.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from nmri3d.models.backend import Backend, Progress, SiteEdit, Stimulus, no_progress
from nmri3d.models.checks import require_indices, require_layers
from nmri3d.models.progress import part
from nmri3d.models.provenance import provenance
from nmri3d.models.residual_backend import ResidualBackend, as_residual
from nmri3d.models.unit_backend import as_units
from nmri3d.perturbation.edits import site_edits
from nmri3d.results import Scan
from nmri3d.scans.flair_config import FlairConfig
from nmri3d.scans.unit_flair import scan_unit_flair
from nmri3d.template.access import available, template_of
from nmri3d.template.lens import (
    LensRow,
    LensStatistics,
    lens_rows,
    lens_statistics,
    read_residuals,
)
from nmri3d.template.template import Template


def scan_flair(model: Backend, prompt: str, config: FlairConfig, *, progress: Progress = no_progress) -> Scan:
    """Return a Scan with float32 values [tokens, components]: anomaly scores 0 to 100 (raw KL in nats without a template).

    details, rows being the points of `row_layer` and `row_site` in the order of the residual stream:
        kl, entropy                       float32 [rows, tokens], nats; kl NaN in the last row
        percentile_kl, percentile_entropy, score   float32 [rows, tokens], 0 to 100
        row_layer int64 [rows], row_site str [rows], enabled bool [rows]
        summary                           float32 [tokens], mean score over the enabled rows
        final_entropy, one_minus_max_probability, rarity   float32 [tokens], of the model's own distribution
        position int64 [tokens], special bool [tokens]

    Raises InputError for what cannot be scanned, and what `progress` raises.
    """
    started = time.perf_counter()
    whole = as_residual(model)
    if whole is None:
        return scan_unit_flair(as_units(model), prompt, config, progress)
    layers = require_layers(model, config.layers)
    first = _half_way(whole) if config.enabled_from is None else config.enabled_from
    [first] = require_indices("layer", [first], model.info.n_layers, "this model")
    stimulus = model.stimulus(prompt)
    positions = range(len(stimulus)) if config.positions is None else config.positions
    chosen = np.array(require_indices("position", positions, len(stimulus), "the prompt"), dtype=np.int64)

    wanted = config.template == "auto" or (config.template == "ready" and available(model))
    template = template_of(model, progress=part(progress, 0.0, 0.5)) if wanted else None
    points = lens_rows(model, config.sites, layers)
    changes = site_edits(model, stimulus, config.edits)
    measured = _measure(whole, stimulus, points, chosen, template, changes, part(progress, 0.5 if wanted else 0.0, 1.0))
    scores = _scores(config, model, points, measured, template, chosen)
    enabled = np.array([point.layer >= first and not point.is_last for point in points])
    painted = measured.kl if template is None else scores.score
    progress(1.0, "done")
    record = {
        "alpha": config.alpha,
        "beta": config.beta,
        "sites": list(config.sites),
        "layers": None if config.layers is None else sorted(layers),
        "positions": None if config.positions is None else chosen.tolist(),
        "enabled_from": first,
        "template": None if template is None else f"{template.n_tokens} tokens of reference text",
    }
    if config.edits:
        record["edits"] = [edit.as_record() for edit in config.edits]
    return Scan(
        mode="FLAIR",
        values=_on_components(model, points, painted),
        units="KL(final || lens) in nats, no template" if template is None else "percentile of the reference text",
        components=model.components,
        tokens=tuple(stimulus.labels[position] for position in chosen),
        provenance=provenance(model, started, record, prompt),
        step_axis=model.step_axis,
        details={
            "kl": measured.kl,
            "entropy": measured.entropy,
            "percentile_kl": scores.kl,
            "percentile_entropy": scores.entropy,
            "score": scores.score,
            "row_layer": np.array([point.layer for point in points], dtype=np.int64),
            "row_site": np.array([point.site for point in points], dtype=np.str_),
            "enabled": enabled,
            "summary": _mean_over(scores.score[enabled]),
            "final_entropy": measured.final_entropy,
            "one_minus_max_probability": measured.final_doubt,
            "rarity": measured.rarity,
            "position": chosen,
            "special": stimulus.special[chosen],
        },
    )


def _measure(
    model: ResidualBackend,
    stimulus: Stimulus,
    points: tuple[LensRow, ...],
    chosen: np.ndarray,
    template: Template | None,
    changes: Sequence[SiteEdit],
    progress: Progress,
) -> LensStatistics:
    residuals, final = read_residuals(model, stimulus, points, edits=changes, progress=part(progress, 0.0, 0.2))
    log_u = None
    if template is not None:
        floor = np.finfo(np.float32).tiny
        log_u = torch.from_numpy(np.log(np.maximum(template.final_distribution, floor)))
    return lens_statistics(
        model, points, residuals[:, chosen], final[chosen], log_u=log_u, progress=part(progress, 0.2, 1.0)
    )


class _Scores(NamedTuple):
    """Percentiles and scores, float32 [rows, tokens]."""

    kl: np.ndarray
    entropy: np.ndarray
    score: np.ndarray


def _scores(
    config: FlairConfig,
    model: Backend,
    points: tuple[LensRow, ...],
    measured: LensStatistics,
    template: Template | None,
    positions: np.ndarray,
) -> _Scores:
    if template is None or template.lens is None:
        return _Scores(*np.full((3, *measured.kl.shape), np.nan, np.float32))
    row_of = {point: row for row, point in enumerate(lens_rows(model))}
    rows = [row_of[point] for point in points]
    kl = template.lens.percentile("kl", rows, measured.kl, measured.rarity, positions)
    entropy = template.lens.percentile("entropy", rows, measured.entropy, measured.rarity, positions)
    # a weight of 0 leaves a part out, also where it is not defined
    parts = [weight * part for weight, part in ((config.alpha, kl), (config.beta, entropy)) if weight > 0]
    score = sum(parts[1:], start=parts[0]) / (config.alpha + config.beta)
    last = [point.is_last for point in points]
    score[last] = entropy[last] if config.beta > 0 else np.nan
    return _Scores(kl, entropy, score.astype(np.float32))


def _on_components(model: Backend, points: tuple[LensRow, ...], values: np.ndarray) -> np.ndarray:
    """Float32 [tokens, components] of values [rows, tokens]: every component takes the point that its write reaches first."""
    table = model.components
    painted = np.full((values.shape[1], len(table)), np.nan, dtype=np.float32)
    for row, point in enumerate(points):
        of_layer = table.layer == point.layer
        is_mlp = table.kind == "mlp"
        reached = of_layer if model.info.parallel_blocks else of_layer & (is_mlp if point.site == "mlp" else ~is_mlp)
        painted[:, reached] = values[row][:, None]
    return painted


def _half_way(model: ResidualBackend) -> int:
    """The first layer of the second half; earlier where no point but the last would be left (two blocks without MLPs)."""
    return min(
        model.info.n_layers // 2, max((point.layer for point in lens_rows(model) if not point.is_last), default=0)
    )


def _mean_over(scores: np.ndarray) -> np.ndarray:
    """Mean over rows [rows, tokens] of what is defined, float32 [tokens]; NaN where nothing is."""
    there = ~np.isnan(scores)
    total = np.where(there, scores, 0.0).sum(axis=0, dtype=np.float64)
    n = there.sum(axis=0)
    return np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0).astype(np.float32)
