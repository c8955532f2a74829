"""What a model does on the reference text: the numbers that a template holds, and what is read off them.

Convention. Position 0 is kept apart everywhere (`*_first`): many models park large values on the first token. All other
positions are pooled. Writes are those of `nmri3d.models.writes`; `unembed` writes nothing and is NaN.

FLAIR's reference is kept as it was measured, a cloud of points, and the regression is worked out from it:
within each stratum of positions ({0}, {1 to 3}, {4 on}) the KL and the entropy of every row are fitted by least squares
as a line over the rarity c of the model's own answer. A value's percentile is the share of the stratum's residuals that
are smaller, equal ones counted half, in percent.

Rarity is `c = -sum P log u` with u the mean final distribution over the reference; for the reference's own points u is
taken without the point's own passage, so that they stand as a new prompt does.

A stratum with fewer than MIN_SAMPLES points, or where all points are the same (position 0 of a model whose tokenizer
puts a BOS in front), has no percentiles: NaN.

Left out: building (`build`), files (`storage`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError

MIN_SAMPLES = 30
STRATA = ("0", "1 to 3", "4 on")
STATISTICS = ("kl", "entropy")

_SAME = 1e-3  # nats; points that differ by less than this throughout are one point and rounding


def stratum_of(positions: np.ndarray) -> np.ndarray:
    """Stratum of each position, int64: 0 for the first, 1 for positions 1 to 3, 2 for 4 on."""
    return np.digitize(positions, [1, 4])


@dataclass(frozen=True, eq=False)
class LensReference:
    """The logit lens on the reference text, at sampled positions.

    kl, entropy        float32 [rows, samples], nats; rows are those of `nmri3d.template.lens.lens_rows(model)`; kl NaN in
                       the last row
    rarity             float32 [samples], nats
    position, passage  int32 [samples]
    """

    kl: np.ndarray
    entropy: np.ndarray
    rarity: np.ndarray
    position: np.ndarray
    passage: np.ndarray

    def percentile(
        self, statistic: str, rows: Sequence[int], values: np.ndarray, rarity: np.ndarray, positions: np.ndarray
    ) -> np.ndarray:
        """Percentiles, float32 [rows, positions], of values of "kl" or "entropy" given the rarities at those positions."""
        fits = self._fits[STATISTICS.index(statistic)]
        found = np.full(values.shape, np.nan, dtype=np.float32)
        strata = stratum_of(np.asarray(positions))
        for stratum, fit in enumerate(fits):
            chosen = strata == stratum
            for line, row in enumerate(rows):
                if not np.isnan(fit.line[row, 0]):
                    found[line, chosen] = fit.percentile(row, values[line, chosen], rarity[chosen])
        return found

    def line(self, statistic: str, stratum: int) -> np.ndarray:
        """Intercept and slope of the fitted line, float64 [rows, 2], of "kl" or "entropy" over the rarity; NaN if none."""
        return self._fits[STATISTICS.index(statistic)][stratum].line

    @cached_property
    def _fits(self) -> tuple[list[_Fit], list[_Fit]]:
        strata = stratum_of(self.position)
        return tuple(  # type: ignore[return-value]
            [_fit(values[:, strata == s], self.rarity[strata == s]) for s in range(len(STRATA))]
            for values in (self.kl, self.entropy)
        )


@dataclass(frozen=True, eq=False)
class _Fit:
    """One stratum's lines [rows, 2] (intercept, slope) and sorted residuals [rows, samples]; NaN rows where undefined."""

    line: np.ndarray
    residuals: np.ndarray

    def percentile(self, row: int, values: np.ndarray, rarity: np.ndarray) -> np.ndarray:
        """Percentile of each value's residual among the row's, in 0 to 100; NaN stays NaN."""
        residuals = values - self.line[row, 0] - self.line[row, 1] * rarity.astype(np.float64)
        below = np.searchsorted(self.residuals[row], residuals, side="left")
        through = np.searchsorted(self.residuals[row], residuals, side="right")
        return np.where(np.isnan(residuals), np.nan, 50.0 * (below + through) / self.residuals.shape[1])


def _fit(values: np.ndarray, rarity: np.ndarray) -> _Fit:
    values, rarity = values.astype(np.float64), rarity.astype(np.float64)
    n_rows, n = values.shape
    if n < MIN_SAMPLES:
        return _Fit(np.full((n_rows, 2), np.nan), np.full((n_rows, n), np.nan))
    centered = rarity - rarity.mean()
    spread = (centered**2).sum()
    slope = values @ centered / spread if np.ptp(rarity) > _SAME else np.zeros(n_rows)
    line = np.stack([values.mean(axis=1) - slope * rarity.mean(), slope], axis=1)
    line[~(np.ptp(values, axis=1) > _SAME)] = np.nan
    residuals = np.sort(values - line[:, :1] - line[:, 1:] * rarity, axis=1)
    return _Fit(line, residuals)


@dataclass(frozen=True, eq=False)
class ActivityReference:
    """What the parts of a network without a residual stream do at each step of its reference stimuli.

    Steps are kept apart, since a network's own steps (rounds of refinement, control steps) may differ as much as its parts
    do; the last row is for all steps further on than there are MIN_SAMPLES stimuli, and holds all steps but the first
    together.

    mean, std  float32 [steps + 1, components] of the activation's fMRI value; NaN where a part is silent
    n          int64 [steps + 1], samples
    std_first  float32 [components, d_model], per unit at step 0
    """

    mean: np.ndarray
    std: np.ndarray
    n: np.ndarray
    std_first: np.ndarray

    def z(self, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Values [positions, components] in standard deviations from the reference at the same step, float32.

        A part that never varied there has 0 where it is as ever, and where it is not, +-sqrt(n): the most by which one of
        n + 1 values can differ from their mean, in their own standard deviations.
        """
        rows = np.minimum(np.asarray(positions), len(self.n) - 1)
        mean, std, n = self.mean[rows], self.std[rows], self.n[rows][:, None]
        apart = values - mean
        same = np.abs(apart) <= 1e-5 * np.abs(mean) + 1e-7
        constant = np.where(same, 0.0, np.sign(apart) * np.sqrt(n))
        varies = std > 1e-4 * np.abs(mean)
        found = np.divide(apart, std, out=np.where(np.isnan(apart), np.nan, constant), where=varies)
        return found.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Template:
    """What one model does on the reference text. Arrays are read-only, float32 unless said otherwise.

    fingerprint             of the weights that it was made with
    model_id                for people
    n_tokens                tokens that were run
    components              the component table
    mean, std               [components, d_model] of the write over positions 1.. (std over the positions, per dimension)
    mean_first              [components, d_model], mean write at position 0
    residual_std            [2 layers + 1, d_model], std of the residual stream over positions 1.. entering each block (even
                            rows), after its attention (odd; NaN in parallel blocks), and before the final norm (last)
    neuron_mean, neuron_std [neurons], activations over positions 1..
    embedding_std           standard deviation of all entries of the embeddings at positions 1.. (ROME's noise is 3 of it)
    final_distribution      [d_vocab], u: the model's own next-token distribution, mean over positions 1..
    fmri_mean, fmri_std     [components], Euclidean norm of the write over positions 1..
    fmri_mean_first, fmri_std_first   the same at position 0
    top_value, top_passage, top_position   [components, 5] (int32 the last two): largest norms at positions 1.., at most
                            one a passage, largest first; passage is an index into `nmri3d.template.reference.passages()`
    lens                    FLAIR's reference; None for a network without a lens
    activity                that of a network without a residual stream; None for others

    Of a network without a residual stream the "writes" are activations of parts, NaN beyond a part's own width, and their
    values keep the sign of single units; residual_std has no rows, embedding_std and final_distribution are NaN, and the
    largest values (by magnitude) are those of all steps.
    """

    fingerprint: str
    model_id: str
    n_tokens: int
    components: ComponentTable
    mean: np.ndarray
    std: np.ndarray
    mean_first: np.ndarray
    residual_std: np.ndarray
    neuron_mean: np.ndarray
    neuron_std: np.ndarray
    embedding_std: float
    final_distribution: np.ndarray
    fmri_mean: np.ndarray
    fmri_std: np.ndarray
    fmri_mean_first: np.ndarray
    fmri_std_first: np.ndarray
    top_value: np.ndarray
    top_passage: np.ndarray
    top_position: np.ndarray
    lens: LensReference | None = None
    activity: ActivityReference | None = None

    def __post_init__(self) -> None:
        n, d_model = self.mean.shape
        shapes = {
            "mean": (len(self.components), d_model),
            "std": (n, d_model),
            "mean_first": (n, d_model),
            "residual_std": (len(self.residual_std), d_model),
            "fmri_mean": (n,),
            "fmri_std": (n,),
            "fmri_mean_first": (n,),
            "fmri_std_first": (n,),
            "neuron_std": self.neuron_mean.shape,
            "top_passage": self.top_value.shape,
            "top_position": self.top_value.shape,
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise AlignmentError(f"{name} of a template must be {shape}, got {getattr(self, name).shape}")
        for owner in (self, self.lens, self.activity):
            for value in vars(owner).values() if owner is not None else ():
                if isinstance(value, np.ndarray):
                    value.setflags(write=False)

    def fmri_z(self, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """fMRI norms [positions, components] in standard deviations from the reference, position 0 against position 0.

        NaN where the reference does not vary (attention biases; position 0 behind a BOS).
        """
        first = (np.asarray(positions) == 0)[:, None]
        mean = np.where(first, self.fmri_mean_first, self.fmri_mean)
        std = np.where(first, self.fmri_std_first, self.fmri_std)
        varies = std > 1e-4 * np.abs(mean)
        return np.divide(values - mean, std, out=np.full(values.shape, np.nan, np.float32), where=varies)
