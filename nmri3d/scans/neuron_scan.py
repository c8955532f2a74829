"""Scans of single MLP neurons, aligned to the neuron table: T1, T2 and fMRI.

    T1    parameters of the neuron: its columns of the input (and gate) matrices, their biases, its row of the output matrix
    T2    the statistics of t2.py over the neuron's own weights (biases left out): mean, std, max, l2, kurtosis,
          outlier_share; details hold all of them, [neurons] each
    fMRI  signed activation after the nonlinearity; in gated MLPs, after the gate

DTI and FLAIR are refused: paths are measured between components that write to the residual stream as a whole, and FLAIR reads
the residual after a whole sub-layer. Left out: a neuron's own effect on the answer, for which `nmri3d.perturb` edits it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.provenance import provenance
from nmri3d.models.residual_backend import require
from nmri3d.results import Scan
from nmri3d.scans.dispatch import canonical_mode
from nmri3d.scans.fmri import FmriConfig, scan_fmri
from nmri3d.scans.t2 import OUTLIER_STD, STATISTICS

NEURON_MODES = ("T1", "T2", "fMRI")
NEURON_STATISTICS = ("std", "mean", "max", "l2", "kurtosis", "outlier_share")
"""Statistics of T2 that a neuron has; the spectral norms belong to heads."""

MOST_BYTES = 1 << 30
"""Bytes of values that an fMRI of all neurons may have."""

NOT_OF_NEURONS = {
    "DTI": "DTI has no values of single neurons: paths are measured between whole components; look at its parcels, or edit a "
    "neuron and compare",
    "FLAIR": "FLAIR has no values of single neurons: the lens reads the residual after a whole sub-layer; look at its parcels",
}
"""Why a mode has none, and what to do."""


def scan_neurons(
    model: Backend, mode: str, prompt: str | None = None, *, progress: Progress = no_progress, **options: Any
) -> Scan:
    """Scan every MLP neuron: a Scan whose components are `model.neurons`, values [1 or steps, neurons].

    options  T2: statistic ("std"). fMRI: layers and positions (None: all; neurons of other layers are NaN).

    Raises InputError for DTI and FLAIR, for an unknown mode or option, for a prompt where there must be none or none where
    there must be one, for a statistic that neurons have not, and for more values than MOST_BYTES hold.
    """
    mode = canonical_mode(mode)
    if mode in NOT_OF_NEURONS:
        raise InputError(NOT_OF_NEURONS[mode])
    known = {"T1": (), "T2": ("statistic",), "fMRI": ("layers", "positions")}[mode]
    for name in options:
        if name not in known:
            has = f"it knows {', '.join(known)}" if known else "it has none"
            raise InputError(f"the {mode} scan of neurons has no option {name!r}; {has}")
    require(model, "neurons")
    if mode == "fMRI":
        if prompt is None:
            raise InputError("the fMRI scan needs a prompt; pass the sentence to run")
        return _activations(model, prompt, options, progress)
    if prompt is not None:
        raise InputError(f"the {mode} scan looks at the weights and takes no prompt; leave it out")
    started = time.perf_counter()
    if mode == "T1":
        values = model.neurons.n_params[None, :].copy()
        record = provenance(model, started, {"level": "neuron"})
        return Scan("T1", values, "parameters", model.neurons, (), record)
    return _statistics(model, options.get("statistic", "std"), started, progress)


def _activations(model: Backend, prompt: str, options: dict[str, Any], progress: Progress) -> Scan:
    config = FmriConfig(level="neuron", **options)
    n_steps = len(model.stimulus(prompt))
    size = 4 * n_steps * len(model.neurons)
    if size > MOST_BYTES:
        raise InputError(
            f"{len(model.neurons):,} neurons at {n_steps:,} tokens would take {size / 2**30:.1f} GiB; shorten the prompt"
        )
    return scan_fmri(model, prompt, config, progress=progress)


def _statistics(model: Backend, statistic: str, started: float, progress: Progress) -> Scan:
    if statistic not in NEURON_STATISTICS:
        raise InputError(f"neurons have no statistic {statistic!r}; choose one of {', '.join(NEURON_STATISTICS)}")
    details = {name: np.full(len(model.neurons), np.nan, dtype=np.float32) for name in NEURON_STATISTICS}
    for row in model.components.rows("mlp").tolist():
        layer = int(model.components.layer[row])
        progress(layer / model.info.n_layers, f"neurons of {model.components.ids[row]}")
        rows = model.neurons.rows("neuron", layer)
        first = 0
        for table in _weights(model, row):
            for name, values in _moments(table).items():
                details[name][rows[first : first + len(table)]] = values
            first += len(table)
    progress(1.0, "done")
    return Scan(
        mode="T2",
        values=details[statistic][None, :].copy(),
        units=STATISTICS[statistic],
        components=model.neurons,
        tokens=(),
        provenance=provenance(model, started, {"level": "neuron", "statistic": statistic}),
        signed=statistic == "mean",
        details=details,
    )


def _weights(model: Backend, row: int, at_once: int = 512) -> Iterator[np.ndarray]:
    """The weights of the neurons of an MLP, float32 [at most `at_once` neurons, weights], neuron by neuron."""
    weights = model.weights(row)
    by_neuron = [matrix if name == "W_out" else matrix.mT for name, matrix in weights.items()]
    for first in range(0, by_neuron[0].shape[0], at_once):
        parts = [matrix[first : first + at_once].float().cpu().numpy() for matrix in by_neuron]
        yield np.concatenate(parts, axis=1)


def _moments(table: np.ndarray) -> dict[str, np.ndarray]:
    """The statistics of every row of float32 [neurons, weights]; sums in float32, pairwise, as in t2.py."""
    n = table.shape[1]
    centered = table - table.mean(axis=1, keepdims=True)
    squared = np.square(centered)
    second = squared.sum(axis=1) / n
    std = np.sqrt(second)
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = np.where(std > 0, np.square(squared).sum(axis=1) / n / np.square(second), np.nan)
    return {
        "mean": table.mean(axis=1),
        "std": std,
        "max": np.abs(table).max(axis=1),
        "l2": np.sqrt(np.square(table).sum(axis=1)),
        "kurtosis": kurtosis,
        "outlier_share": (np.abs(table) > OUTLIER_STD * std[:, None]).mean(axis=1),
    }
