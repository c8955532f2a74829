"""T1, T2 and fMRI on tiny models, against sums and loops written out plainly."""

import numpy as np
import pytest
import scipy.stats
import torch

from nmri3d.errors import Cancelled, InputError
from nmri3d.results import open_scan
from nmri3d.scans import neuron_activations, scan, top_neurons
from nmri3d.scans.t2 import HISTOGRAM_BINS, STATISTICS
from tests.models.backends import tiny_backend
from tests.models.tiny import D_MLP, FAMILIES, LAYERS, PROMPTS

families = pytest.mark.parametrize("family", FAMILIES)
PROMPT = PROMPTS[1]


@families
def test_t1_adds_up_to_the_models_own_count(family):
    t1 = scan(tiny_backend(family), "T1")
    assert t1.values.dtype == np.int64
    assert t1.values.shape == (1, len(t1.components))
    assert int(t1.values.sum()) == sum({id(p): p.numel() for p in tiny_backend(family).hf_model.parameters()}.values())


@families
def test_t2_statistics_equal_those_of_the_flattened_weights(family):
    backend = tiny_backend(family)
    t2 = scan(backend, "T2")
    for name in ("embed", "blocks.1.attn.head_2", "blocks.2.mlp", "unembed"):
        row = t2.components.row(name)
        weights = np.concatenate([m.numpy().ravel() for m in backend.weights(row).values()]).astype(np.float64)
        expected = {
            "mean": weights.mean(),
            "std": weights.std(),
            "max": np.abs(weights).max(),
            "l2": np.sqrt((weights**2).sum()),
            "kurtosis": scipy.stats.kurtosis(weights, fisher=False),
            "outlier_share": (np.abs(weights) > 6 * weights.std()).mean(),
        }
        for statistic, value in expected.items():
            np.testing.assert_allclose(
                t2.details[statistic][row], value, rtol=1e-4, atol=1e-7, err_msg=f"{name} {statistic}"
            )
        assert t2.details["histogram_counts"][row].sum() == len(weights)
        counts, _ = np.histogram(weights, bins=HISTOGRAM_BINS, range=(-expected["max"], expected["max"]))
        assert (
            np.abs(t2.details["histogram_counts"][row] - counts).sum() <= 2 + len(weights) // 1000
        )  # edges in float32
        assert t2.details["histogram_edges"][row, [0, -1]] == pytest.approx(
            [-expected["max"], expected["max"]], rel=1e-5
        )


def test_t2_counts_planted_outliers_and_measures_circuits():
    from nmri3d.models.transformer_lens import TransformerLensBackend
    from tests.models.backends import tiny_checkpoint

    checkpoint = tiny_checkpoint("llama")
    with torch.no_grad():
        checkpoint.hf_model.model.layers[1].mlp.down_proj.weight[3, :5] = 40.0
    backend = TransformerLensBackend(checkpoint)
    t2 = scan(backend, "T2", statistic="outlier_share")
    mlp = backend.components.row("blocks.1.mlp")
    n_weights = 3 * 32 * D_MLP
    assert t2.values[0, mlp] == pytest.approx(5 / n_weights, rel=1e-5)
    assert t2.values[0, backend.components.row("blocks.0.mlp")] == 0
    head = backend.weights(backend.components.row("blocks.2.attn.head_3"))
    row = backend.components.row("blocks.2.attn.head_3")
    assert t2.details["ov_norm"][row] == pytest.approx(np.linalg.norm(head["W_V"] @ head["W_O"], 2), rel=1e-4)
    assert t2.details["qk_norm"][row] == pytest.approx(np.linalg.norm(head["W_Q"] @ head["W_K"].T, 2), rel=1e-4)
    assert np.isnan(t2.details["ov_norm"][mlp])


@pytest.mark.parametrize("statistic", STATISTICS)
def test_t2_paints_the_statistic_asked_for(statistic):
    t2 = scan(tiny_backend("gpt2"), "T2", statistic=statistic)
    np.testing.assert_array_equal(t2.values[0], t2.details[statistic])
    assert t2.units == STATISTICS[statistic]
    assert t2.signed == (statistic == "mean")


@families
def test_fmri_residuals_equal_hugging_face_hidden_states(family):
    backend = tiny_backend(family)
    fmri = scan(backend, "fMRI", PROMPT)
    ids = torch.from_numpy(backend.stimulus(PROMPT).ids)[None]
    with torch.no_grad():
        hidden = backend.hf_model(input_ids=ids, output_hidden_states=True).hidden_states
    norms = torch.stack([h[0].norm(dim=-1) for h in hidden[:LAYERS]])  # the last one is after the final norm
    assert fmri.details["residual"].shape == (LAYERS + 1, len(fmri.tokens))
    np.testing.assert_allclose(fmri.details["residual"][:LAYERS], norms, rtol=1e-5)
    final = backend.run(backend.stimulus(PROMPT), {"hook_resid_final": lambda r: r.norm(dim=-1)}).reads[
        "hook_resid_final"
    ]
    np.testing.assert_allclose(fmri.details["residual"][-1], final, rtol=1e-5)


def test_fmri_raw_keeps_whole_writes_whose_norms_are_the_values():
    raw = scan(tiny_backend("gemma2"), "fMRI", PROMPT, aggregation="raw")
    plain = scan(tiny_backend("gemma2"), "fMRI", PROMPT)
    np.testing.assert_allclose(np.linalg.norm(raw.details["writes"], axis=-1), plain.values, rtol=1e-4)
    assert raw.units == plain.units


def test_fmri_of_some_layers_and_positions_is_part_of_the_whole():
    backend = tiny_backend("qwen3")
    whole = scan(backend, "fMRI", PROMPT)
    part = scan(backend, "fMRI", PROMPT, layers=[1, -1], positions=[-1, 0, 2])
    n = len(whole.tokens)
    assert part.details["position"].tolist() == [n - 1, 0, 2]
    assert part.tokens == (whole.tokens[-1], whole.tokens[0], whole.tokens[2])
    rows = np.flatnonzero(np.isin(whole.components.layer, [1, LAYERS - 1]) | (whole.components.kind == "embed"))
    np.testing.assert_allclose(part.values[:, rows], whole.values[[n - 1, 0, 2]][:, rows], rtol=1e-6)
    assert np.isnan(np.delete(part.values, rows, axis=1)).all()
    np.testing.assert_allclose(part.details["residual"], whole.details["residual"][:, [n - 1, 0, 2]], rtol=1e-6)


@families
def test_neurons_are_what_goes_into_the_output_projection(family):
    backend = tiny_backend(family)
    fmri = scan(backend, "fMRI", PROMPT, level="neuron")
    assert fmri.components == backend.neurons
    assert len(backend.neurons) == LAYERS * D_MLP
    assert fmri.signed
    row = backend.components.row("blocks.1.mlp")
    activation = torch.from_numpy(fmri.values[:, backend.neurons.rows(layer=1)])
    write = activation @ backend.weights(row)["W_out"]
    bias = getattr(backend._modules.blocks[1].mlp_out, "bias", None)
    raw = {}
    backend.run(backend.stimulus(PROMPT), {"blocks.1.hook_mlp_out": lambda out: raw.setdefault("out", out.clone())})
    expected = raw["out"]
    if family == "gemma2":
        write = backend.hf_model.model.layers[1].post_feedforward_layernorm(write).detach()
    elif bias is not None:
        write = write + bias
    np.testing.assert_allclose(write, expected, rtol=1e-3, atol=1e-4)


def test_top_neurons_are_the_largest_by_magnitude():
    backend = tiny_backend("gpt2")
    values = neuron_activations(backend, backend.stimulus(PROMPT), frozenset({2}))
    assert np.isnan(values[:, backend.neurons.rows(layer=0)]).all()
    layer = values[3, backend.neurons.rows(layer=2)]
    top = top_neurons(backend, PROMPT, layer=2, position=3, k=4)
    assert [t.index for t in top] == sorted(range(len(layer)), key=lambda i: -abs(layer[i]))[:4]
    assert top[0].activation == layer[top[0].index]
    assert top[0].component == f"blocks.2.mlp.neuron_{top[0].index}"


def test_a_scan_says_what_it_is_and_survives_saving(tmp_path):
    backend = tiny_backend("llama")
    fmri = scan(backend, "fmri", PROMPT, aggregation="max")
    p = fmri.provenance
    assert (p.model_id, p.prompt, p.fingerprint) == ("tiny-llama", PROMPT, backend.info.fingerprint)
    assert p.config["aggregation"] == "max"
    assert p.versions["torch"] == torch.__version__
    assert fmri.units == "largest |entry| of the write"
    assert fmri.details["special"].tolist() == [True] + [False] * (len(fmri.tokens) - 1)
    again = open_scan(fmri.save(tmp_path / "scan.npz"))
    np.testing.assert_array_equal(again.values, fmri.values)
    assert again.provenance == p


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("fMRI",), {}, "needs a prompt"),
        (("fMRI", ""), {}, "prompt is empty"),
        (("fMRI", "a " * 200), {}, "reads at most"),
        (("fMRI", 3), {}, "a prompt is text, got int"),
        (("fMRI", "a"), {"positions": [5]}, "position 5 is outside the prompt"),
        (("fMRI", "a"), {"positions": [1.5]}, "a position is a whole number"),
        (("fMRI", "a"), {"positions": "0"}, "positions is a list"),
        (("fMRI", "a"), {"positions": []}, "positions is an empty list"),
        (("fMRI", "a"), {"layers": [3]}, "layer 3 is outside this model, which has 3"),
        (("fMRI", "a"), {"layers": [True]}, "a layer is a whole number"),
        (("fMRI", "a"), {"aggregation": "median"}, "aggregation is one of l2_norm, max, mean, raw; got 'median'"),
        (("fMRI", "a"), {"aggregaton": "max"}, "no option 'aggregaton'; did you mean 'aggregation'"),
        (("fMRI", "a"), {"level": "neuron", "aggregation": "max"}, "takes no aggregation"),
        (("T1", "a"), {}, "takes no prompt"),
        (("T1",), {"statistic": "std"}, "has no option 'statistic'"),
        (("T2",), {"statistic": "median"}, "statistic is one of"),
        (("PET",), {}, "the scans are T1, T2, fMRI, DTI, FLAIR"),
        (("DTI",), {}, "needs a prompt"),
        ((None,), {}, "there is no scan None"),
    ],
)
def test_what_cannot_be_scanned_is_refused_in_words(arguments, options, message):
    with pytest.raises(InputError, match=message):
        scan(tiny_backend("llama"), *arguments, **options)


@pytest.mark.parametrize(("mode", "prompt"), [("T2", None), ("fMRI", "a b c")])
def test_progress_rises_to_one_and_a_cancel_ends_the_scan(mode, prompt):
    shares = []
    scan(tiny_backend("gpt2"), mode, prompt, progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > LAYERS

    def cancel(share, what):
        raise Cancelled

    with pytest.raises(Cancelled):
        scan(tiny_backend("gpt2"), mode, prompt, progress=cancel)
