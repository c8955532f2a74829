"""Measured edges between components: what a tube of the tractography stands for.

Convention. An edge runs from the component that writes (`source`) to the one that reads (`target`), and `slot` says by
which input it reads: the query, key or value input of a head, the input of an MLP, or the final logits (whose target is
the row of `unembed`). A positive score supports the target token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.errors import AlignmentError, InputError

SLOTS = ("q", "k", "v", "mlp", "logits")


@dataclass(frozen=True, eq=False)
class Tracts:
    """Edges in the order of falling |score|.

    source  int32 [edges], row of the writing component in the scan's table
    target  int32 [edges], row of the reading component
    slot    str [edges], one of SLOTS
    score   float32 [edges], in the unit of the scan's metric
    total   sum of |score| over all edges that were measured, kept here or not
    count   how many edges were measured

    Raises AlignmentError when the arrays differ in length.
    """

    source: np.ndarray
    target: np.ndarray
    slot: np.ndarray
    score: np.ndarray
    total: float
    count: int

    def __post_init__(self) -> None:
        lengths = {len(self.source), len(self.target), len(self.slot), len(self.score)}
        if len(lengths) != 1:
            raise AlignmentError(f"source, target, slot and score of tracts differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.source)

    @property
    def share(self) -> float:
        """Share of the total |score| that the edges kept here carry; NaN where the total is zero."""
        return float(np.abs(self.score, dtype=np.float64).sum() / self.total) if self.total else float("nan")

    def pruned(self, share: float) -> Tracts:
        """The fewest edges that carry this share (0 to 1) of the total |score|, or all that are kept here."""
        if not 0 <= share <= 1:
            raise InputError(f"a share of the total effect lies between 0 and 1, got {share!r}")
        order = np.argsort(-np.abs(self.score), kind="stable")
        carried = np.cumsum(np.abs(self.score[order], dtype=np.float64))
        return self._only(order[: int(np.searchsorted(carried, share * self.total)) + 1] if share else order[:0])

    def touching(self, row: int) -> Tracts:
        """The edges into or out of one component."""
        return self._only(np.flatnonzero((self.source == row) | (self.target == row)))

    def _only(self, chosen: np.ndarray) -> Tracts:
        return Tracts(
            self.source[chosen], self.target[chosen], self.slot[chosen], self.score[chosen], self.total, self.count
        )
