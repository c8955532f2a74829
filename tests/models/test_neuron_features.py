"""Features of neurons: what they read and write, whatever the free sign of a gated neuron is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmri3d.errors import InputError
from nmri3d.models.neuron_features import COMPONENTS, neuron_features
from tests.models.backends import tiny_backend
from tests.models.tiny import D_MLP


def weights(n: int = 80, d: int = 24, *, gated: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    names = ("W_in", "W_gate") if gated else ("W_in",)
    read = {name: torch.randn(d, n, generator=generator) for name in names}
    return {**read, "W_out": torch.randn(n, d, generator=generator)}


def likeness(features: np.ndarray) -> np.ndarray:
    return features @ features.T


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "phi3"])
def test_a_layer_gives_one_finite_row_a_neuron(family):
    backend = tiny_backend(family)
    features = backend.neuron_features(1)
    assert features.dtype == np.float32
    assert len(features) == D_MLP
    assert features.shape[1] <= COMPONENTS
    assert np.isfinite(features).all()
    assert (backend.neuron_features(1) == features).all()
    assert (backend.neuron_features(0) != features).any()


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="layer 99 is outside this model"):
        tiny_backend("llama").neuron_features(99)


def test_turning_a_gated_neuron_over_changes_nothing():
    given = weights()
    before = likeness(neuron_features(given))
    turned = {name: weight.clone() for name, weight in given.items()}
    turned["W_in"][:, ::3] *= -1
    turned["W_out"][::3] *= -1
    assert np.allclose(likeness(neuron_features(turned)), before, atol=1e-4)
    turned["W_gate"][:, ::3] *= -1  # that is another neuron
    assert not np.allclose(likeness(neuron_features(turned)), before, atol=1e-2)


def test_without_a_gate_the_sign_counts():
    given = weights(gated=False)
    turned = {name: weight.clone() for name, weight in given.items()}
    turned["W_in"][:, ::3] *= -1
    assert not np.allclose(likeness(neuron_features(turned)), likeness(neuron_features(given)), atol=1e-2)


def test_length_does_not_count():
    given = weights()
    longer = {"W_in": given["W_in"] * 3, "W_gate": given["W_gate"] * 0.5, "W_out": given["W_out"] * 7}
    assert np.allclose(likeness(neuron_features(longer)), likeness(neuron_features(given)), atol=1e-4)


def test_inner_products_are_those_of_the_directions_themselves():
    """With fewer dimensions than components nothing is left out, so likeness is exact."""
    given = weights(n=60, d=8, gated=False)
    read = given["W_in"].T / given["W_in"].T.norm(dim=1, keepdim=True)
    write = given["W_out"] / given["W_out"].norm(dim=1, keepdim=True)
    table = torch.cat([read, write], dim=1)
    table = table - table.mean(dim=0)
    assert np.allclose(likeness(neuron_features(given)), (table @ table.T).numpy(), atol=1e-4)


def test_the_components_are_the_largest():
    given = weights(n=200, d=64)
    kept = np.square(neuron_features(given)).sum()
    read, gate = (given[name].T / given[name].T.norm(dim=1, keepdim=True) for name in ("W_in", "W_gate"))
    write = given["W_out"] / given["W_out"].norm(dim=1, keepdim=True)
    sign = torch.where((gate * read).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    table = torch.cat([gate / 2**0.5, sign * read / 2**0.5, sign * write], dim=1)
    exact = torch.linalg.svdvals(table - table.mean(dim=0))[:COMPONENTS].square().sum()
    assert kept == pytest.approx(float(exact), rel=0.02)  # random weights: the hardest spectrum there is
    assert kept <= float(exact) * (1 + 1e-5)
