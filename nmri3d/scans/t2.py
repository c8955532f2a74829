"""T2, Tensor Layer 2: how the weights of each component are distributed.

Over all weights w of a component's own undivided slice (a head: its W_Q, the K/V head that it reads, its W_O; an MLP: its
matrices; embed: its rows; biases and norm gains left out, an attention output bias being a row of its own; a part of a
network without a residual stream: all its own parameters, NaN where it has none):

    mean           sum w / n
    std            sqrt(sum (w - mean)^2 / n)
    max            max |w|
    l2             sqrt(sum w^2)
    kurtosis       sum (w - mean)^4 / n / std^4, 3 for a normal distribution
    outlier_share  share of |w| > 6 std
    ov_norm        spectral norm of W_V W_O (heads; NaN elsewhere)
    qk_norm        spectral norm of W_Q W_K^T, rotary positions left out (heads; NaN elsewhere)

Sums are taken in float32 over pieces of 2^15 weights
(pairwise), and added up in float64. A shared K/V head is part of each head that reads it, and a tied
unembedding has the statistics of `embed`: these values do not add up, unlike T1's. No forward pass.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.checks import require_choice
from nmri3d.models.provenance import provenance
from nmri3d.models.residual_backend import as_residual, require
from nmri3d.results import Scan

STATISTICS = {
    "std": "standard deviation of the weights",
    "mean": "mean of the weights",
    "max": "largest |weight|",
    "l2": "L2 norm of the weights",
    "kurtosis": "kurtosis of the weights (3: normal)",
    "outlier_share": "share of |weights| over 6 standard deviations",
    "ov_norm": "spectral norm of W_V W_O",
    "qk_norm": "spectral norm of W_Q W_Kᵀ",
}
"""What can be painted, and its unit in words."""

SPECTRAL = ("ov_norm", "qk_norm")
HISTOGRAM_BINS = 64
OUTLIER_STD = 6.0
CHUNK = 1 << 15
"""Weights looked at in one go: 128 kB of float32."""


@dataclass(frozen=True, kw_only=True)
class T2Config:
    """`statistic` is the one that becomes `values`; all of them are in `details` whatever is chosen."""

    statistic: str = "std"

    def __post_init__(self) -> None:
        require_choice("statistic", self.statistic, tuple(STATISTICS))


def scan_t2(model: Backend, config: T2Config, *, progress: Progress = no_progress) -> Scan:
    """Return a Scan with float32 values [1, components].

    details: each statistic [components]; histogram_counts int64 [components, 64] over equal bins with
    histogram_edges float32 [components, 65], symmetric about zero up to the largest |weight|.

    Raises InputError for a spectral norm of a network without a residual stream.
    """
    started = time.perf_counter()
    whole = as_residual(model)
    if config.statistic in SPECTRAL:
        require(model, config.statistic)
    n = len(model.components)
    details = {name: np.full(n, np.nan, dtype=np.float32) for name in STATISTICS}
    counts = np.zeros((n, HISTOGRAM_BINS), dtype=np.int64)
    edges = np.zeros((n, HISTOGRAM_BINS + 1), dtype=np.float32)
    for row, name in enumerate(model.components.ids):
        progress(row / n, name)
        chunks = _chunks(model.weights(row).values())
        if not chunks:
            continue
        moments = _moments(chunks)
        for statistic, value in moments.items():
            details[statistic][row] = value
        counts[row], edges[row] = _histogram(chunks, moments["max"])
    if whole is not None:
        for layer in range(whole.info.n_layers):
            ov, qk = whole.circuit_spectra(layer)
            heads = whole.components.rows("head", layer)
            details["ov_norm"][heads], details["qk_norm"][heads] = ov[:, 0].cpu(), qk[:, 0].cpu()
    progress(1.0, "done")
    return Scan(
        mode="T2",
        values=details[config.statistic][None, :].copy(),
        units=STATISTICS[config.statistic],
        components=model.components,
        tokens=(),
        provenance=provenance(model, started, asdict(config)),
        signed=config.statistic == "mean",
        details={**details, "histogram_counts": counts, "histogram_edges": edges},
    )


def _chunks(matrices: Iterable[torch.Tensor]) -> list[np.ndarray]:
    """The weights in flat float32 pieces that fit the processor's cache, so that several passes over them cost little.

    NumPy on purpose: on pieces this small, torch spends more time waking its threads than computing.
    """
    flat = [matrix.reshape(-1).float().cpu().numpy() for matrix in matrices]
    return [whole[start : start + CHUNK] for whole in flat for start in range(0, len(whole), CHUNK)]


def _moments(chunks: list[np.ndarray]) -> dict[str, float]:
    """The statistics of the module's first lines, from two passes: sums first, then moments about the mean."""
    n = sum(map(len, chunks))
    total = squares = largest = 0.0
    for chunk in chunks:
        largest = max(largest, -float(chunk.min()), float(chunk.max()))
        total += float(chunk.sum())
        squares += float(np.square(chunk).sum())
    mean = total / n
    second = fourth = 0.0
    for chunk in chunks:
        squared = np.square(chunk - np.float32(mean))
        second += float(squared.sum())
        fourth += float(np.square(squared).sum())
    std = math.sqrt(second / n)
    threshold = OUTLIER_STD * std
    outliers = sum(int(np.count_nonzero(np.abs(chunk) > threshold)) for chunk in chunks) if largest > threshold else 0
    return {
        "mean": mean,
        "std": std,
        "max": largest,
        "l2": math.sqrt(squares),
        "kurtosis": fourth / n / std**4 if std > 0 else math.nan,
        "outlier_share": outliers / n,
    }


def _histogram(chunks: list[np.ndarray], largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts int64 [bins] and edges float32 [bins + 1] of equal bins over -largest to largest."""
    reach = largest or 1.0  # all weights zero: any range will do
    counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
    for chunk in chunks:
        bins = ((chunk + np.float32(reach)) * np.float32(HISTOGRAM_BINS / (2 * reach))).astype(np.int32)
        counts += np.bincount(np.minimum(bins, HISTOGRAM_BINS - 1), minlength=HISTOGRAM_BINS)
    return counts, np.linspace(-reach, reach, HISTOGRAM_BINS + 1, dtype=np.float32)
