"""Moran's I: whether activity is spatially clustered on an atlas, beyond what kind and depth explain.

For values x of n parcels, less their mean, and w = 1 for two that share a border, else 0,

    I = (n / sum w) * (sum over pairs of w x x) / (sum of x^2)

1 is the best that a smooth map can come near to, -1 / (n - 1) is what independent values give. Of several steps (the
tokens of a prompt) I is the mean over the steps.

Depth alone clusters activity: neighbors in depth are alike in how much they write. So the values are not compared with
all permutations of the parcels but with those *within strata*, components of one kind in bands of BAND layers: z is how many
standard deviations of the permuted I the true one lies above their mean. All steps are permuted alike, since what is
tested is where components lie.

Convention. Values are z-scores against what is usual for each component (the template), or else the largest writers decide
everything; position 0 is left out by the caller. Components that are NaN in any step are left out.

Sources: Moran 1950; its use as a measure of topographic models: Rathi et al. 2024 (TopoLM), Deb et al. 2025 (TopoNets).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.atlas.parcels import Atlas
from nmri3d.errors import AlignmentError, InputError

BAND = 2
"""Layers in a stratum."""


@dataclass(frozen=True)
class Moran:
    """Moran's I of some steps on an atlas.

    index         mean of I over the steps
    expected      mean of I over permutations within strata
    spread        standard deviation of I over them
    z             (index - expected) / spread; NaN where no permutation changes anything
    p             share of permutations with an I as large or larger, the true one counted in
    n_parcels     components that took part
    n_steps       steps
    """

    index: float
    expected: float
    spread: float
    z: float
    p: float
    n_parcels: int
    n_steps: int


def morans_i(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64 [steps]: Moran's I of values [steps, n] with neighbors `pairs` int [m, 2], each pair once.

    NaN for a step in which all values are the same, and where nothing neighbors.
    """
    centered = np.asarray(values, dtype=np.float64)
    centered = centered - centered.mean(axis=1, keepdims=True)
    square = (centered**2).sum(axis=1)
    shared = (centered[:, pairs[:, 0]] * centered[:, pairs[:, 1]]).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(square > 0, values.shape[1] * shared / (len(pairs) * square), np.nan)


def spatial_clustering(atlas: Atlas, values: np.ndarray, *, n_permutations: int = 2000, seed: int = 0) -> Moran:
    """Moran's I of values float [steps, n], aligned to the atlas's components, and its z within strata.

    Raises AlignmentError for values of another width, InputError where fewer than three components with a parcel have
    values that vary, or where no stratum holds two.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    components = atlas.components
    if values.ndim != 2 or values.shape[1] != len(components) or not len(values):
        raise AlignmentError(
            f"values have shape {values.shape}, and the atlas has {len(components)} components; give [steps, components]"
        )
    taken = np.isfinite(values).all(axis=0) & (atlas.area > 0)
    if taken.sum() < 3:
        raise InputError("Moran's I needs at least three parcels with a value in every step; scan more components")
    number = np.full(len(components), -1)
    number[taken] = np.arange(taken.sum())
    pairs = number[atlas.neighbors()]
    pairs = pairs[(pairs >= 0).all(axis=1)]
    values = values[:, taken]
    each = morans_i(values, pairs)
    varies = np.isfinite(each)
    if not varies.any():
        raise InputError("the values are the same everywhere, or no two parcels touch; Moran's I is not defined")
    band = components.layer[taken] // BAND
    strata = [f"{kind} {part}" for kind, part in zip(components.kind[taken], band, strict=True)]
    stratum = np.unique(strata, return_inverse=True)[1]
    if np.bincount(stratum).max() < 2:
        raise InputError(
            f"no two components are of one kind and within {BAND} layers, so there is nothing to permute; use a larger model"
        )
    # I of permuted values is a sum over neighbors of one matrix: the mean over steps of products of normed values.
    normed = values[varies] - values[varies].mean(axis=1, keepdims=True)
    normed /= np.sqrt((normed**2).sum(axis=1, keepdims=True))
    product = len(stratum) / len(pairs) * (normed.T @ normed) / varies.sum()
    random = np.random.default_rng(seed)
    by_stratum = np.argsort(stratum, kind="stable")
    permuted = np.empty(n_permutations)
    for n in range(n_permutations):
        order = np.lexsort((random.random(len(stratum)), stratum))
        place = np.empty(len(stratum), dtype=np.int64)
        place[by_stratum] = order
        permuted[n] = product[place[pairs[:, 0]], place[pairs[:, 1]]].sum()
    index, expected, spread = float(each[varies].mean()), float(permuted.mean()), float(permuted.std())
    return Moran(
        index=index,
        expected=expected,
        spread=spread,
        z=(index - expected) / spread if spread > 1e-9 else float("nan"),  # less is rounding
        p=float((1 + (permuted >= index - 1e-12).sum()) / (1 + n_permutations)),
        n_parcels=len(stratum),
        n_steps=int(varies.sum()),
    )
