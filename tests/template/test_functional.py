"""Functional features: distances are correlations, position 0 is left out, the cache is used and repaired."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d.errors import Cancelled
from nmri3d.template import functional
from nmri3d.template.access import cache_folder
from nmri3d.template.functional import functional_features, principal_features, reference_activity
from nmri3d.template.reference import passages
from tests.models.backends import tiny_backend


@pytest.fixture(autouse=True)
def few_passages(tmp_path, monkeypatch):
    """A cache of its own and a short text: features are features however many passages they are made of."""
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(functional, "reference_of", lambda model: passages()[:12])


def test_squared_distance_is_two_minus_twice_the_correlation():
    random = np.random.default_rng(0)
    activity = random.normal(size=(300, 9)) @ random.normal(size=(9, 9)) * random.uniform(0.1, 50, 9) + 3
    features = principal_features(activity, kept=9)
    distance = ((features[:, None] - features) ** 2).sum(axis=-1)
    assert np.allclose(distance, 2 * (1 - np.corrcoef(activity.T)), atol=1e-5)


def test_kept_components_are_the_largest():
    random = np.random.default_rng(1)
    activity = random.normal(size=(200, 3)) @ random.normal(size=(3, 20)) + 0.01 * random.normal(size=(200, 20))
    assert principal_features(activity, kept=3).shape == (20, 3)
    assert (principal_features(activity, kept=3) ** 2).sum() == pytest.approx(20, rel=0.01)


def test_what_never_varies_has_zeros():
    activity = np.column_stack([np.arange(10.0), np.full(10, 5.0), np.full(10, np.nan)])
    features = principal_features(activity)
    assert features[0].any()
    assert not features[1:].any()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_activity_is_the_norm_of_every_write_without_position_0(family):
    import nmri3d

    backend = tiny_backend(family)
    expected = np.concatenate([nmri3d.scan(backend, "fMRI", text).values[1:] for text in passages()[:12]])
    assert np.allclose(reference_activity(backend), expected, rtol=1e-5, equal_nan=True)


def test_second_call_runs_nothing_and_a_damaged_file_is_made_anew(monkeypatch):
    backend, runs = tiny_backend("llama"), []
    real = functional.reference_activity
    monkeypatch.setattr(functional, "reference_activity", lambda *args: runs.append(args) or real(*args))
    first = functional_features(backend)
    assert np.array_equal(functional_features(backend), first)
    assert len(runs) == 1
    (path,) = cache_folder().glob("*functional*")
    path.write_bytes(path.read_bytes()[:300])
    assert np.array_equal(functional_features(backend), first)
    assert len(runs) == 2
    assert first.shape[0] == len(backend.components)
    assert not first[backend.components.row("unembed")].any()


def test_withdrawn_work_leaves_nothing():
    def withdraw(share, what):
        if share > 0.3:
            raise Cancelled("no more")

    with pytest.raises(Cancelled):
        functional_features(tiny_backend("gpt2"), withdraw)
    assert not list(cache_folder().glob("*"))


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("NMRI3D_CACHE", str(blocked))
    with pytest.warns(UserWarning, match=r"cannot be kept.*NMRI3D_CACHE"):
        assert functional_features(tiny_backend("gpt2")).any()
