"""Linear probes: which value of a hidden level a latent names.

A multinomial logistic regression on standardized latents, with a ridge penalty, fitted by L-BFGS on all tokens of the probe
streams; it sees true values and latents, never the ideal observer.

Left out: nonlinear probes, which could compute what the latent does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

RIDGE = 1e-4
ITERATIONS = 60


@dataclass(frozen=True, eq=False)
class Probe:
    """weight float32 [width, values] and bias [values], of latents as they are."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, latents: torch.Tensor) -> np.ndarray:
        """Values named, int64 [...], for latents [..., width]."""
        return (latents @ self.weight + self.bias).argmax(-1).numpy()


def fit_probe(latents: torch.Tensor, values: np.ndarray, n_values: int) -> Probe:
    """Fit on latents float32 [tokens, width] and their true values, int [tokens]."""
    mean, std = latents.mean(0), latents.std(0) + 1e-6
    standard, labels = (latents - mean) / std, torch.as_tensor(values)
    weight = torch.zeros(latents.shape[1], n_values, requires_grad=True)
    bias = torch.zeros(n_values, requires_grad=True)
    descent = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        value = functional.cross_entropy(standard @ weight + bias, labels) + RIDGE * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        descent.step(loss)
    scaled = weight.detach() / std[:, None]
    return Probe(scaled, bias.detach() - mean @ scaled)
