"""Networks of other kinds than language models, to the atlas: tables, and the parts of the brain that they name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.components import ComponentTable


@dataclass(frozen=True)
class Network:
    """A model to the atlas: components, the part of the brain of each, and features in a few clusters."""

    components: ComponentTable
    structures: tuple[str, ...]
    seed: int = 0

    def layout_features(self) -> np.ndarray:
        random = np.random.default_rng(self.seed)
        n = len(self.components)
        centers = 2.0 * random.normal(size=(6, 6))
        return (centers[random.integers(0, 6, n)] + 0.5 * random.normal(size=(n, 6))).astype(np.float32)


def network(*groups: tuple[str, int, int, int, str]) -> Network:
    """A network of groups (kind, layer, number, parameters each, part of the brain), indices counted in each group."""
    rows = [
        (kind, layer, index, size, structure)
        for kind, layer, number, size, structure in groups
        for index in range(number)
    ]
    kind, layer, index, size, structure = zip(*rows, strict=True)
    table = ComponentTable(np.array(kind), np.array(layer), np.array(index), np.array(size))
    return Network(table, structure)


def brain_of_three() -> Network:
    """Components on cortex, cerebellum and hippocampi, some without parameters."""
    return network(
        ("grid", 0, 12, 0, "cortex"),
        ("motor", 4, 6, 30, "cortex"),
        ("place", 1, 16, 20, "hippocampus"),
        ("memory", 2, 5, 60, "hippocampus"),
        ("granule", 1, 30, 12, "cerebellum"),
        ("purkinje", 2, 8, 100, "cerebellum"),
        ("nucleus", 3, 4, 40, "cerebellum"),
    )
