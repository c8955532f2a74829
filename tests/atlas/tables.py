"""Component tables and models that exist only as shapes, for tests of the atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.components import ComponentTable


def table(
    n_layers: int, n_heads: int, *, mlp: bool = True, embed: bool = True, bias: bool = False, n_params: object = None
) -> ComponentTable:
    """A language model's table; `n_params` (array, or None for usual sizes) overrides the sizes."""
    rows: list[tuple[str, int, int, int]] = [("embed", -1, -1, 50_000)] if embed else []
    for layer in range(n_layers):
        rows += [("head", layer, head, 4_000) for head in range(n_heads)]
        rows += [("attn_bias", layer, -1, 64)] if bias else []
        rows += [("mlp", layer, -1, 30_000)] if mlp else []
    rows += [("unembed", -1, -1, 0)] if embed else []
    kind, layer, index, size = (np.array(column) for column in zip(*rows, strict=True))
    return ComponentTable(kind, layer, index, size if n_params is None else np.asarray(n_params))


def uneven(components: ComponentTable, spread: float, seed: int = 0) -> ComponentTable:
    """The same table with sizes that differ by up to a factor of `spread`."""
    random = np.random.default_rng(seed)
    size = 1_000 * np.exp(random.uniform(0, np.log(spread), len(components)))
    return ComponentTable(components.kind, components.layer, components.index, size.astype(np.int64))


@dataclass(frozen=True)
class Shape:
    """A model to the atlas: components, and features in a few clusters that say nothing of depth."""

    components: ComponentTable
    seed: int = 0

    def layout_features(self) -> np.ndarray:
        random = np.random.default_rng(self.seed)
        n = len(self.components)
        centers = 2.0 * random.normal(size=(5, 6))
        return (centers[random.integers(0, 5, n)] + 0.5 * random.normal(size=(n, 6))).astype(np.float32)
