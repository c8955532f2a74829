"""Moran's I by its definition, on fields that are clustered and on some that are not, within strata."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.atlas.moran import BAND, morans_i, spatial_clustering
from nmri3d.errors import AlignmentError, InputError


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 1000))
def test_index_by_its_definition(n, steps, seed):
    random = np.random.default_rng(seed)
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, n) if random.random() < 0.4 or j == i + 1])
    values = random.normal(size=(steps, n))
    weights = np.zeros((n, n))
    for i, j in pairs:
        weights[i, j] = weights[j, i] = 1
    for step, found in zip(values, morans_i(values, pairs), strict=True):
        d = step - step.mean()
        assert found == pytest.approx(n / weights.sum() * (weights * np.outer(d, d)).sum() / (d @ d))


def test_nothing_varies_nothing_is_defined():
    assert np.isnan(morans_i(np.ones((1, 4)), np.array([(0, 1)]))).all()


def test_a_smooth_field_is_clustered_and_noise_is_not(default_atlas):
    height = np.nan_to_num(default_atlas.centroids("sphere")[:, 2])
    smooth = spatial_clustering(default_atlas, height)
    assert smooth.index > 0.5
    assert smooth.z > 10
    assert smooth.p < 0.01
    noise = spatial_clustering(default_atlas, np.random.default_rng(0).normal(size=(40, len(default_atlas.components))))
    assert abs(noise.index) < 0.05
    assert abs(noise.z) < 3
    assert noise.n_steps == 40


def test_depth_and_kind_alone_do_not_count(default_atlas):
    """A field of kind and band only is as clustered as its permutations: a free permutation would call it clustered."""
    components = default_atlas.components
    values = np.sin(components.layer // BAND / 3) + (components.kind == "mlp")
    found = spatial_clustering(default_atlas, values)
    assert found.index > 0.2, "the case shows nothing: depth does not cluster"
    assert np.isnan(found.z), "permutations that change nothing have no spread to measure by"
    assert found.index == pytest.approx(found.expected)
    noisy = values + np.random.default_rng(2).normal(size=(30, len(values)))
    assert spatial_clustering(default_atlas, noisy).index > 0.1
    assert abs(spatial_clustering(default_atlas, noisy).z) < 3


def test_permutations_stay_within_strata(default_atlas):
    """The mean over permutations, against permuting the values themselves."""
    components = default_atlas.components
    values = np.random.default_rng(3).normal(size=(3, len(components))) + components.layer
    found = spatial_clustering(default_atlas, values, n_permutations=400)
    stratum = [f"{kind} {layer // BAND}" for kind, layer in zip(components.kind, components.layer, strict=True)]
    random, drawn = np.random.default_rng(9), []
    rows = components.cortical
    number = np.full(len(components), -1)
    number[rows] = np.arange(len(rows))
    pairs = number[default_atlas.neighbors()]
    for _ in range(100):
        moved = values.copy()
        for name in set(stratum):
            inside = np.array([text == name for text in stratum])
            moved[:, inside] = values[:, random.permutation(np.flatnonzero(inside))]
        drawn.append(morans_i(moved[:, rows], pairs).mean())
    assert found.expected == pytest.approx(np.mean(drawn), abs=4 * found.spread / 10)
    assert found.spread == pytest.approx(np.std(drawn), rel=0.3)
    assert found == spatial_clustering(default_atlas, values, n_permutations=400)


def test_components_without_a_value_are_left_out(default_atlas):
    values = np.random.default_rng(4).normal(size=(2, len(default_atlas.components)))
    values[1, :5] = np.nan
    assert spatial_clustering(default_atlas, values).n_parcels == len(default_atlas.components) - 5


def test_what_cannot_be_answered_is_refused(default_atlas, atlases):
    n = len(default_atlas.components)
    with pytest.raises(AlignmentError, match=r"\[steps, components\]"):
        spatial_clustering(default_atlas, np.zeros((2, n - 1)))
    with pytest.raises(InputError, match="at least three parcels"):
        spatial_clustering(default_atlas, np.full((1, n), np.nan))
    with pytest.raises(InputError, match="same everywhere"):
        spatial_clustering(default_atlas, np.ones((1, n)))
