"""Scans of neurons: their own parameters, weights and activations, and words where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nmri3d
from nmri3d.errors import InputError
from nmri3d.scans import neuron_scan, scan
from nmri3d.scans.neuron_scan import NEURON_MODES, NEURON_STATISTICS, scan_neurons
from nmri3d.scene.colors import display_range
from tests.models.backends import tiny_backend

PROMPT = "the cat sat"


def own_weights(backend, layer: int, index: int) -> np.ndarray:
    parts = backend.weights(backend.components.row(f"blocks.{layer}.mlp"))
    rows = [part[index] if name == "W_out" else part[:, index] for name, part in parts.items()]
    return torch.cat(rows).double().numpy()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_t1_counts_each_neuron(family):
    backend = tiny_backend(family)
    found = scan_neurons(backend, "T1")
    assert found.components == backend.neurons
    assert (found.values == backend.neurons.n_params).all()
    biases = sum(name.endswith("bias") for name, _ in backend._modules.blocks[0].mlp.named_parameters())
    # its own columns and row, and the bias where there is one
    assert found.values[0, 0] == len(own_weights(backend, 0, 0)) + (1 if biases else 0)


@pytest.mark.parametrize("family", ["gpt2", "llama", "phi3"])
def test_t2_is_of_the_neurons_own_weights(family):
    backend = tiny_backend(family)
    found = scan_neurons(backend, "T2", statistic="kurtosis")
    assert set(found.details) == set(NEURON_STATISTICS)
    assert not found.signed
    for layer, index in ((0, 0), (1, 5)):
        row = backend.neurons.row(f"blocks.{layer}.mlp.neuron_{index}")
        w = own_weights(backend, layer, index)
        expected = {
            "mean": w.mean(),
            "std": w.std(),
            "max": abs(w).max(),
            "l2": np.sqrt((w**2).sum()),
            "kurtosis": ((w - w.mean()) ** 4).mean() / w.var() ** 2,
            "outlier_share": (abs(w) > 6 * w.std()).mean(),
        }
        for name, value in expected.items():
            assert found.details[name][row] == pytest.approx(value, rel=1e-4, abs=1e-7), name
    assert (found.values[0] == found.details["kurtosis"]).all()
    assert scan_neurons(backend, "t2", statistic="mean").signed


def test_fmri_is_the_activation_of_every_neuron():
    backend = tiny_backend("llama")
    found = scan_neurons(backend, "fMRI", PROMPT)
    whole = scan(backend, "fMRI", PROMPT, level="neuron")
    assert (found.values == whole.values).all()
    assert found.signed
    part = scan_neurons(backend, "fMRI", PROMPT, positions=[1], layers=[0])
    rows = backend.neurons.rows(layer=0)
    assert np.allclose(part.values[0, rows], whole.values[1, rows], rtol=1e-5)
    assert np.isnan(np.delete(part.values, rows, axis=1)).all()


@pytest.mark.parametrize("mode", NEURON_MODES)
def test_a_scan_of_neurons_has_a_bar_to_be_shown_on(mode):
    found = nmri3d.scan_neurons(tiny_backend("gpt2"), mode, PROMPT if mode == "fMRI" else None)
    shown = display_range(found)
    assert shown.vmin < shown.vmax
    assert np.isfinite(shown.fraction(found.values)).all()


@pytest.mark.parametrize(
    ("asked", "options", "sentence"),
    [
        (("DTI", PROMPT), {}, "no values of single neurons: paths"),
        (("flair", PROMPT), {}, "no values of single neurons: the lens"),
        (("CT",), {}, "there is no scan 'CT'"),
        (("T1", PROMPT), {}, "takes no prompt"),
        (("T2", PROMPT), {}, "takes no prompt"),
        (("fMRI",), {}, "needs a prompt"),
        (("T2",), {"statistic": "ov_norm"}, "neurons have no statistic 'ov_norm'"),
        (("T1",), {"statistic": "std"}, "it has none"),
        (("fMRI", PROMPT), {"aggregation": "max"}, "no option 'aggregation'; it knows layers, positions"),
        (("fMRI", PROMPT), {"layers": [99]}, "outside"),
    ],
)
def test_what_cannot_be_is_refused(asked, options, sentence):
    with pytest.raises(InputError, match=sentence):
        scan_neurons(tiny_backend("gpt2"), *asked, **options)


def test_more_values_than_memory_should_hold_are_refused(monkeypatch):
    monkeypatch.setattr(neuron_scan, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="shorten the prompt"):
        scan_neurons(tiny_backend("gpt2"), "fMRI", PROMPT)
