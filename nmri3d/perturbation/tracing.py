"""Causal tracing: which piece of the residual stream, restored into a corrupted run, brings the answer back.

Convention (Meng et al. 2022, ROME; counterfactual form: activation patching, Wang et al. 2022). The corrupted run is that of
a counterfactual prompt of equally many tokens, or the clean prompt with noise added to the embedding of marked tokens. One
cell restores the clean value of one site at one position: `resid` row l the residual that enters block l (the last row is
before the final norm), `attn` and `mlp` row l what they write; a window of w layers restores w of them at once, about row l.

    recovery = (mean patched - mean corrupt) / (clean - mean corrupt),  not clamped

of the logit of the target minus that of the foil. Noise: 3 standard deviations of the embedding entries over the
template's tokens, drawn 10 times by one seed, the same draws for every cell. The marked token is by default the one,
neither first nor last, whose own noising lowers the metric most.

Cost. See `nmri3d.models.replay`; cells at which clean and corrupted run do not differ (a shared prefix) cost nothing.

Left out: restoring several positions at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, Stimulus, no_progress
from nmri3d.models.checks import require_choice, require_indices
from nmri3d.models.progress import part
from nmri3d.models.provenance import provenance
from nmri3d.models.recording import Recording
from nmri3d.models.replay import StreamEdit
from nmri3d.models.residual_backend import ResidualBackend, require_residual
from nmri3d.perturbation.estimate import Confirm, replay_with_estimate
from nmri3d.perturbation.metric import LogitDifference, logit_difference, require_same_length
from nmri3d.results import Heatmap

SITES = ("resid", "attn", "mlp")
METHODS = ("counterfactual", "noise")
NOISE_STD = 3.0
"""Noise in standard deviations of the embedding entries, as in ROME."""

SMALLEST_GAP = 1e-4
"""A counterfactual whose metric differs less than this share of the largest logit tells nothing but rounding."""


def trace(
    model: Backend,
    clean: str,
    corrupt: str | None = None,
    *,
    target: str | int | None = None,
    foil: str | int | None = None,
    sites: Sequence[str] = SITES,
    method: str | None = None,
    window: int = 1,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    position: int = -1,
    draws: int = 10,
    seed: int = 0,
    marked: Sequence[int] | None = None,
    confirm: Confirm | None = None,
    progress: Progress = no_progress,
) -> Heatmap:
    """Heat map of recovery by site, layer and position.

    corrupt    counterfactual prompt; None: noise
    method     "counterfactual" or "noise"; None follows from `corrupt`
    window     layers restored at once
    layers     rows to measure, 0 to n_layers for resid (the last is before the final norm); None: all
    positions  columns to measure; None: all
    position   whose next token the metric is about
    draws, seed, marked   of the noise; marked are the positions that become noisy
    confirm    told the estimate in seconds before the run; False withdraws it

    Raises InputError for what does not fit, Cancelled where `confirm` refuses.
    """
    started = time.perf_counter()
    whole = require_residual(model, "trace")
    method = method or ("noise" if corrupt is None else "counterfactual")
    require_choice("method", method, METHODS)
    if (method == "counterfactual") != (corrupt is not None):
        raise InputError("a counterfactual trace needs a corrupted prompt, a noise trace takes none")
    if not sites or isinstance(sites, str):
        raise InputError(f"sites is a list of {', '.join(SITES)}; got {sites!r}")
    for site in sites:
        require_choice("site", site, SITES)
    if not len(model.components.rows("mlp")):
        sites = [site for site in sites if site != "mlp"]
        if not sites:
            raise InputError(
                f"{model.info.title} is of attention alone and has no MLPs to restore; trace resid or attn"
            )
    n_layers = model.info.n_layers
    _require_count("window", window, n_layers)
    _require_count("draws", draws, 1000)
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"a seed is a whole number, zero or more; got {seed!r}")
    stimulus = model.stimulus(clean)
    rows = sorted(
        set(range(n_layers + 1) if layers is None else require_indices("layer", layers, n_layers + 1, "the rows"))
    )
    columns = range(len(stimulus)) if positions is None else positions
    columns = sorted(set(require_indices("position", columns, len(stimulus), "the prompt")))
    if not columns or not rows or (rows == [n_layers] and "resid" not in sites):
        raise InputError(
            "the trace has no cell: name at least one layer and one position, or leave them out for all "
            f"(attn and mlp have rows 0 to {n_layers - 1}, resid one more)"
        )

    recording = whole.record(stimulus)
    metric = logit_difference(whole, recording.at(-1), target, foil, position)
    if corrupt is not None:
        other = model.stimulus(corrupt)
        require_same_length(model, stimulus, other)
        corrupted, corrupt_tokens, noisy = [whole.record(other)], other.labels, []
    else:
        noisy = _marked(whole, stimulus, recording, metric, marked, draws, seed, part(progress, 0.0, 0.1))
        corrupted = [
            whole.record(stimulus, embedding=embedding)
            for embedding in _noisy_embeddings(whole, recording, noisy, draws, seed)
        ]
        corrupt_tokens = stimulus.labels
    grid = _Grid(whole, recording, tuple(sites), rows, columns, window)
    patched = []
    for draw, base in enumerate(corrupted):
        share = part(progress, 0.1 + 0.9 * draw / len(corrupted), 0.1 + 0.9 * (draw + 1) / len(corrupted))
        ask = confirm if draw == 0 else None
        patched.append(grid.measure(base, metric, ask, share, repeats=len(corrupted)))
    values, stderr, note, corrupt_metric = _recovery(
        np.stack(patched), np.array([metric.of(base) for base in corrupted]), metric, recording, method
    )
    config = {
        "method": method,
        "corrupt": corrupt,
        "target": metric.texts[0],
        "foil": metric.texts[1],
        "position": metric.position,
        "sites": list(sites),
        "window": window,
        "layers": None if layers is None else rows,
        "positions": None if positions is None else columns,
        "draws": draws if method == "noise" else None,
        "marked": noisy if method == "noise" else None,
    }
    return Heatmap(
        values=values,
        stderr=stderr,
        sites=tuple(sites),
        tokens=stimulus.labels,
        corrupt_tokens=corrupt_tokens,
        clean_metric=metric.of(recording),
        corrupt_metric=corrupt_metric,
        target=metric.named[0],
        foil=metric.named[1],
        marked=tuple(noisy),
        method=method,
        note=note,
        provenance=provenance(model, started, config, clean, seed=seed if method == "noise" else None),
    )


@dataclass(frozen=True, eq=False)
class _Grid:
    """The cells to measure: sites x rows x columns, restored from the clean recording."""

    model: ResidualBackend
    clean: Recording
    sites: tuple[str, ...]
    rows: list[int]
    columns: list[int]
    window: int

    def measure(
        self, base: Recording, metric: LogitDifference, confirm: Confirm | None, progress: Progress, repeats: int
    ) -> np.ndarray:
        """Metric of each patched run, float64 [sites, layers + 1, steps]; NaN where there is no cell."""
        n_layers = self.model.info.n_layers
        found = np.full((len(self.sites), n_layers + 1, len(self.clean)), np.nan)
        cells, edits = [], []
        for place, site in enumerate(self.sites):
            for row in self.rows:
                if site != "resid" and row == n_layers:
                    continue
                found[place, row, self.columns] = metric.of(base)  # what a cell without difference gives
                for column in self.columns:
                    edit = self._edit(base, site, row, column)
                    if edit is not None:
                        cells.append((place, row, column))
                        edits.append(edit)
        if edits:
            restored = replay_with_estimate(
                self.model,
                base,
                edits,
                metric.of_rows,
                step=metric.position,
                confirm=confirm,
                progress=progress,
                repeats=repeats,
            )
            found[tuple(np.array(cells).T)] = restored.double().cpu().numpy()
        return found

    def _edit(self, base: Recording, site: str, row: int, column: int) -> StreamEdit | None:
        """The edit of one cell, None where clean and corrupted run are the same there."""
        last = self.model.info.n_layers if site == "resid" else self.model.info.n_layers - 1
        first = max(0, row - (self.window - 1) // 2)
        layers = range(first, min(last, row + self.window // 2) + 1)
        deltas = [
            self._value(self.clean, site, layer, column) - self._value(base, site, layer, column) for layer in layers
        ]
        if not any(bool(delta.any()) for delta in deltas):
            return None
        setting = {(layer, site): (column, self._value(self.clean, site, layer, column)) for layer in layers[1:]}
        return StreamEdit(self._point(site, layers[0]), column, deltas[0][None], setting)

    def _point(self, site: str, layer: int) -> int:
        if site == "resid":
            return 2 * layer
        rows = self.model.components.rows("head" if site == "attn" else "mlp", layer)
        return self.model.entry_point(int(rows[0]))

    def _value(self, recording: Recording, site: str, layer: int, column: int) -> torch.Tensor:
        match site:
            case "resid":
                return recording.at(2 * layer)[column]
            case "attn":
                return recording.attention[layer][column]
            case _:
                return recording.mlps[layer][column]


def _noisy_embeddings(
    model: ResidualBackend, recording: Recording, marked: Sequence[int], draws: int, seed: int
) -> list[torch.Tensor]:
    """What embed writes, with noise at the marked positions; one a draw."""
    from nmri3d.template import template_of

    spread = NOISE_STD * template_of(model).embedding_std
    clean = recording.at(0)
    random = np.random.default_rng(seed)
    noisy = []
    for _ in range(draws):
        noise = torch.from_numpy(spread * random.standard_normal((len(marked), clean.shape[1])))
        embedding = clean.clone()
        embedding[list(marked)] += noise.to(clean)
        noisy.append(embedding)
    return noisy


def _marked(
    model: ResidualBackend,
    stimulus: Stimulus,
    recording: Recording,
    metric: LogitDifference,
    marked: Sequence[int] | None,
    draws: int,
    seed: int,
    progress: Progress,
) -> list[int]:
    """The positions to make noisy: those asked for, or the one whose noising lowers the metric most."""
    from nmri3d.template import template_of

    n_steps = len(stimulus)
    if marked is not None:
        chosen = sorted(set(require_indices("marked position", marked, n_steps, "the prompt")))
        if not chosen:
            raise InputError("no token is marked; mark at least one, or leave it out for the most telling one")
        return chosen
    template_of(model, progress=progress)
    candidates = [p for p in range(1, metric.position) if not stimulus.special[p]]
    if not candidates:
        raise InputError("the prompt has no token between its first and its last to make noisy; write a longer one")
    edits = []
    for position in candidates:
        for embedding in _noisy_embeddings(model, recording, [position], draws, seed):
            delta = (embedding - recording.at(0))[position : position + 1]
            edits.append(StreamEdit(0, position, delta))
    progress(0.0, "looking for the token that matters most")
    found = model.replay(recording, edits, metric.of_rows, step=metric.position, progress=progress)
    means = found.double().reshape(len(candidates), draws).mean(dim=1)
    return [candidates[int(means.argmin())]]


def _recovery(
    patched: np.ndarray, corrupt: np.ndarray, metric: LogitDifference, recording: Recording, method: str
) -> tuple[np.ndarray, np.ndarray, str, float]:
    """Recovery and its standard error from the metric of patched runs [draws, ...] and corrupted runs [draws]."""
    clean, mean_corrupt, draws = metric.of(recording), float(corrupt.mean()), len(corrupt)
    gap = clean - mean_corrupt
    if method == "noise":
        smallest = 3 * float(corrupt.std(ddof=1)) / draws**0.5 if draws > 1 else np.inf
        reason = "under 3 standard errors of the noisy runs; use more draws, or mark another token"
    else:
        scale = float(metric.model.lens(recording.at(-1)[metric.position]).abs().max())
        smallest, reason = (
            SMALLEST_GAP * scale,
            "no more than rounding; choose a corrupted prompt that changes the answer",
        )
    if not abs(gap) > smallest:
        blank = np.full(patched.shape[1:], np.nan, dtype=np.float32)
        return blank, blank.copy(), f"clean and corrupted metric differ by {gap:.3g}, {reason}", mean_corrupt
    values = (patched.mean(axis=0) - mean_corrupt) / gap
    stderr = np.full_like(values, np.nan)
    if method == "noise":
        # of a ratio of means, to first order: the draws are the same in both, so that most of their spread cancels
        paired = patched - (1 - values) * corrupt.reshape(-1, *[1] * values.ndim)
        stderr = paired.std(axis=0, ddof=1) / draws**0.5 / abs(gap)
    return values.astype(np.float32), stderr.astype(np.float32), "", mean_corrupt


def _require_count(name: str, value: int, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise InputError(f"{name} is a whole number from 1 to {largest}, got {value!r}")
