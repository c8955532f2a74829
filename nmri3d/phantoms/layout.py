"""What the parts of a phantom are compared by when they are laid out: their own weights.

Parts of one kind whose weights have equal shapes are compared by the direction of all their weights together, each as one
long vector of unit length, less the mean of the kind; where that is longer than SKETCH, by a fixed random projection of it,
which keeps inner products (Johnson-Lindenstrauss, seed 0).

Convention. A part without weights of its own, or with others than its kind has, is a row of zeros: it is like none more
than another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

SKETCH = 64


def weight_features(kinds: np.ndarray, weights: Sequence[Mapping[str, torch.Tensor]]) -> np.ndarray:
    """float32 [parts, at most SKETCH] of the weights of every part."""
    features = np.zeros((len(weights), SKETCH), dtype=np.float32)
    sizes = np.array([sum(weight.numel() for weight in own.values()) for own in weights])
    for kind in np.unique(kinds):
        of_kind = np.flatnonzero((kinds == kind) & (sizes > 0))
        if not len(of_kind):
            continue
        [(size, _)] = Counter(sizes[of_kind].tolist()).most_common(1)
        rows = of_kind[sizes[of_kind] == size]
        table = torch.stack(
            [torch.cat([weight.detach().float().cpu().flatten() for weight in weights[row].values()]) for row in rows]
        )
        table = table / table.norm(dim=1, keepdim=True).clamp_min(1e-12)
        table = table - table.mean(dim=0)
        if size > SKETCH:
            projection = torch.randn(size, SKETCH, generator=torch.Generator().manual_seed(0)) / SKETCH**0.5
            table = table @ projection
        features[rows, : table.shape[1]] = table.numpy()
    return features
