"""Streaming sums over the reference text: means, standard deviations, and the passages that move each component most."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmri3d.components import ComponentTable

KEPT = 5
"""Passages that are kept a component."""


class Moments:
    """Streaming mean and standard deviation of arrays [samples, ...], summed in float64."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.n = 0
        self._sum = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, values: np.ndarray) -> None:
        self.n += len(values)
        for sample in values:
            exact = sample.astype(np.float64)
            self._sum += exact
            self._squares += exact * exact

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, float32; NaN where there are no samples."""
        if self.n == 0:
            return (np.full(self._sum.shape, np.nan, np.float32),) * 2
        mean = self._sum / self.n
        variance = self._squares / self.n - mean**2
        # rounding of the two float64 sums: without it a write that never changes would seem to
        rounding = 1e-13 * self._squares / self.n
        return mean.astype(np.float32), np.sqrt(np.where(variance > rounding, variance, 0 * variance)).astype(
            np.float32
        )

    def spread_of(self, row: int) -> float:
        """Standard deviation of all entries of one row, over samples and dimensions together."""
        mean = self._sum[row].mean() / self.n
        return float(np.sqrt(self._squares[row].mean() / self.n - mean**2))


class Writes:
    """Sums over the writes of all components, and the passages that move each most."""

    def __init__(self, components: ComponentTable, d_model: int) -> None:
        n = len(components)
        self.first, self.later = Moments((n, d_model)), Moments((n, d_model))
        self.first_norms, self.norms = Moments((n,)), Moments((n,))
        self.top_value = np.full((n, KEPT), np.nan, np.float32)
        self.top_passage = np.full((n, KEPT), -1, np.int32)
        self.top_position = np.full((n, KEPT), -1, np.int32)

    def add(self, passage: int, writes: np.ndarray, norms: np.ndarray, *, ranked_from: int) -> None:
        """Add the writes [positions, components, d_model] of one passage, and their fMRI values [positions, components].

        Positions from `ranked_from` on are looked through for the largest values, by magnitude.
        """
        self.first.add(writes[:1])
        self.later.add(writes[1:])
        self.first_norms.add(norms[:1])
        self.norms.add(norms[1:])
        ranked = np.abs(norms[ranked_from:])
        if len(ranked):
            best = np.argmax(np.where(np.isnan(ranked), -np.inf, ranked), axis=0)
            value = np.take_along_axis(ranked, best[None], axis=0)[0]
            self._rank(value, passage, ranked_from + best)

    def fields(self) -> dict[str, Any]:
        """What a `Template` keeps of them, by the names of its fields."""
        mean, std = self.later.result()
        fmri_mean, fmri_std = self.norms.result()
        fmri_mean_first, fmri_std_first = self.first_norms.result()
        return {
            "n_tokens": self.first.n + self.later.n,
            "mean": mean,
            "std": std,
            "mean_first": self.first.result()[0],
            "fmri_mean": fmri_mean,
            "fmri_std": fmri_std,
            "fmri_mean_first": fmri_mean_first,
            "fmri_std_first": fmri_std_first,
            "top_value": self.top_value,
            "top_passage": self.top_passage,
            "top_position": self.top_position,
        }

    def _rank(self, value: np.ndarray, passage: int, position: np.ndarray) -> None:
        values = np.column_stack([self.top_value, value])
        # NaN (nothing there yet, or a row that writes nothing) sorts last; equal ones keep the earlier passage
        order = np.argsort(-values, axis=1, kind="stable")[:, :KEPT]
        passages_ = np.column_stack([self.top_passage, np.where(np.isnan(value), -1, passage)])
        positions = np.column_stack([self.top_position, np.where(np.isnan(value), -1, position)])
        self.top_value = np.take_along_axis(values, order, axis=1)
        self.top_passage = np.take_along_axis(passages_, order, axis=1).astype(np.int32)
        self.top_position = np.take_along_axis(positions, order, axis=1).astype(np.int32)
