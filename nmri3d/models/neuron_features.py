"""What MLP neurons are compared by: the directions in the residual stream that they read and write.

A neuron of a gated MLP computes act(g . x) (u . x) and writes that times o; turning the signs of u and o together changes
nothing. So of a neuron's three directions, made unit vectors, u and o are taken with the sign by which u points along g.
The reading ones share the weight that the writing one has: [g, u] / sqrt(2) and o; without a gate, the one it reads and the
one it writes. Features are the scores on the first COMPONENTS principal components of that table, within the layer.

Convention. Neurons are alike in so far as the inner product of their features is large. Left out: biases, and the gain of
the norm before the MLP, which scales what all of them read alike.
"""

from __future__ import annotations

import numpy as np
import torch

COMPONENTS = 32
_OVERSAMPLED = 16
_ITERATIONS = 3


def neuron_features(weights: dict[str, torch.Tensor]) -> np.ndarray:
    """float32 [d_mlp, k], k at most COMPONENTS, of one layer's W_in, W_gate (where there is one) and W_out."""
    with torch.no_grad():
        read, write = _unit(weights["W_in"].mT), _unit(weights["W_out"])
        parts = [read, write]
        if "W_gate" in weights:
            gate = _unit(weights["W_gate"].mT)
            sign = torch.where((gate * read).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
            parts = [gate / 2**0.5, sign * read / 2**0.5, sign * write]
        table = torch.cat(parts, dim=1)
        return principal_scores(table - table.mean(dim=0)).numpy()


def principal_scores(table: torch.Tensor) -> torch.Tensor:
    """Scores [n, k] of a centered table [n, m] on its first principal components, by randomised subspace iteration.

    The first generator's draw is fixed, and so is each component's sign, so that equal weights give equal features.
    Source: Halko, Martinsson, Tropp 2011.
    """
    width = min(COMPONENTS + _OVERSAMPLED, *table.shape)
    basis = torch.randn(table.shape[1], width, generator=torch.Generator().manual_seed(0))
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(table.mT @ torch.linalg.qr(table @ basis).Q).Q
    left, sizes, _ = torch.linalg.svd(table @ basis, full_matrices=False)
    scores = (left * sizes)[:, :COMPONENTS]
    largest = scores.abs().argmax(dim=0)
    return scores * torch.where(scores[largest, torch.arange(scores.shape[1])] < 0, -1.0, 1.0)


def _unit(directions: torch.Tensor) -> torch.Tensor:
    directions = directions.float().cpu()
    return directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
