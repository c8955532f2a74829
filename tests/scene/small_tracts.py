"""Edges for tests of drawing, on the small atlas: made up, since only their place and size matter here."""

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.results import Tracts
from tests.scene.small_atlas import BIAS

# source, target, slot, score; rows 1 to 6 are heads of the left sphere, 8 and 9 MLPs and 0, 10 ends on the right one
EDGES = (
    (1, 4, "v", 2.0),
    (2, 5, "q", -1.0),
    (1, 8, "mlp", 0.5),
    (8, 10, "logits", -0.25),
    (BIAS, 9, "mlp", 0.2),
    (0, 3, "k", 0.1),
    (3, 6, "k", 0.05),
)


def small_tracts(total: float = 8.0, count: int = 90) -> Tracts:
    source, target, slot, score = zip(*EDGES, strict=True)
    return Tracts(
        np.array(source, np.int32),
        np.array(target, np.int32),
        np.array(slot),
        np.array(score, np.float32),
        total,
        count,
    )


def random_tracts(components: ComponentTable, n: int, seed: int = 0) -> Tracts:
    """n edges between cortical components, earlier row to later one, scores of both signs, heavy tails."""
    generator = np.random.default_rng(seed)
    rows = components.cortical
    pairs = np.array([sorted(generator.choice(rows, 2, replace=False)) for _ in range(n)], dtype=np.int32).reshape(
        -1, 2
    )
    score = (generator.standard_t(2, n) / 10).astype(np.float32)
    order = np.argsort(-np.abs(score))
    slot = generator.choice(["q", "k", "v", "mlp", "logits"], n)
    return Tracts(pairs[order, 0], pairs[order, 1], slot[order], score[order], float(np.abs(score).sum()) * 1.5, 3 * n)
