"""T2, Tensor Layer 2: how the weights of each component are distributed.

Over all weights w of a component's own undivided slice (a head: its W_Q, the K/V head that it reads, its W_O; an MLP: its
matrices; embed: its rows; biases and norm gains left out, an attention output bias being a row of its own):

    mean           sum w / n
    std            sqrt(sum (w - mean)^2 / n)
    max            max |w|
    l2             sqrt(sum w^2)
    kurtosis       sum (w - mean)^4 / n / std^4, 3 for a normal distribution
    outlier_share  share of |w| > 6 std
    ov_norm        spectral norm of W_V W_O (heads; NaN elsewhere)
    qk_norm        spectral norm of W_Q W_K^T, rotary positions left out (heads; NaN elsewhere)

Sums are taken in float32 with pairwise summation. A shared K/V head is part of each head that reads it, and a tied
unembedding has the statistics of `embed`: these values do not add up, unlike T1's. No forward pass.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch

from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.results import Scan
from nmri3d.scans._common import provenance, require_choice

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

HISTOGRAM_BINS = 64
OUTLIER_STD = 6.0


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
    """
    started = time.perf_counter()
    n = len(model.components)
    details = {name: np.full(n, np.nan, dtype=np.float32) for name in STATISTICS}
    counts = np.zeros((n, HISTOGRAM_BINS), dtype=np.int64)
    edges = np.zeros((n, HISTOGRAM_BINS + 1), dtype=np.float32)
    for row, name in enumerate(model.components.ids):
        progress(row / n, name)
        weights = torch.cat([matrix.flatten() for matrix in model.weights(row).values()]).float()
        for statistic, value in _statistics(weights).items():
            details[statistic][row] = value
        counts[row], edges[row] = _histogram(weights, float(details["max"][row]))
    for layer in range(model.info.n_layers):
        ov, qk = model.circuit_spectra(layer)
        heads = model.components.rows("head", layer)
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


def _statistics(weights: torch.Tensor) -> dict[str, float]:
    mean = weights.mean()
    deviation = weights - mean
    squared = deviation * deviation
    variance = squared.mean()
    std = variance.sqrt()
    return {
        "mean": mean.item(),
        "std": std.item(),
        "max": weights.abs().max().item(),
        "l2": torch.linalg.vector_norm(weights).item(),
        "kurtosis": ((squared * squared).mean() / (variance * variance)).item(),
        "outlier_share": (weights.abs() > OUTLIER_STD * std).float().mean(dtype=torch.float64).item(),
    }


def _histogram(weights: torch.Tensor, largest: float) -> tuple[np.ndarray, np.ndarray]:
    reach = largest or 1.0  # all weights zero: any range will do
    counts = torch.histc(weights.cpu(), bins=HISTOGRAM_BINS, min=-reach, max=reach)
    return counts.numpy().astype(np.int64), np.linspace(-reach, reach, HISTOGRAM_BINS + 1, dtype=np.float32)
