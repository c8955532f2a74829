"""Causal tracing against the naive loop: one whole Hugging Face pass a cell, with plain hooks."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nmri3d import trace
from nmri3d.errors import Cancelled, InputError
from nmri3d.results import Heatmap
from tests.models.tiny import LAYERS
from tests.perturbation.cases import CLEAN, CORRUPT, OTHER, both, families, hooks_left, top_two

SITES = ("resid", "attn", "mlp")
TOLERANCE = 1e-4
"""Of the largest logit, over the gap between the clean and the corrupted metric."""


def window_layers(row, window, last):
    """Layers that are restored together: `window` of them about the row, cut off at both ends."""
    return [layer for layer in range(row - (window - 1) // 2, row + window // 2 + 1) if 0 <= layer <= last]


def naive_trace(plain, ids, bases, tokens, *, sites=SITES, window=1, layers=None, positions=None, position=-1):
    """Recovery and the metric of each run, [bases, sites, layers + 1, positions]; bases are the hooks that corrupt.

    A base is (ids, hooks): the tokens of the corrupted run, and what is done to its embedding.
    """
    seen = plain.seen(ids)
    n_layers, n_steps = plain.n_layers, len(ids)
    with torch.no_grad():
        clean = float(plain.metric(ids, tokens, position=position))
        corrupt = np.array([float(plain.metric(base, tokens, hooks, position)) for base, hooks in bases])
        runs = np.full((len(bases), len(sites), n_layers + 1, n_steps), np.nan)
        for place, site in enumerate(sites):
            last = n_layers if site == "resid" else n_layers - 1
            for row in range(last + 1) if layers is None else [layer for layer in layers if layer <= last]:
                for column in range(n_steps) if positions is None else positions:
                    restore = [
                        plain.restoring(site, layer, column, seen[site, layer][column])
                        for layer in window_layers(row, window, last)
                    ]
                    for draw, (base, hooks) in enumerate(bases):
                        metric = float(plain.metric(base, tokens, [*hooks, *restore], position))
                        runs[draw, place, row, column] = metric
    return (runs.mean(0) - corrupt.mean()) / (clean - corrupt.mean()), runs, clean, corrupt


def logits_of(plain, ids, position=-1):
    with torch.no_grad():
        return plain.logits(ids)[position].numpy()


def same(found, wanted, scale, gap):
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE * scale / abs(gap), rtol=0)


@families
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("corrupt", [CORRUPT, OTHER])
def test_a_counterfactual_trace_equals_the_naive_loop(family, window, corrupt):
    backend, plain = both(family)
    ids, other = backend.stimulus(CLEAN).ids, backend.stimulus(corrupt).ids
    logits = logits_of(plain, ids)
    tokens = top_two(logits)
    wanted, _, clean, base = naive_trace(plain, ids, [(other, [])], tokens, window=window)
    heat = trace(backend, CLEAN, corrupt, window=window)
    assert heat.values.shape == (3, LAYERS + 1, len(ids))
    assert (heat.target[1], heat.foil[1]) == tokens
    assert heat.clean_metric == pytest.approx(clean, abs=1e-4)
    assert heat.corrupt_metric == pytest.approx(base[0], abs=1e-4)
    assert heat.method == "counterfactual"
    assert not heat.marked
    assert np.isnan(heat.stderr).all()
    same(heat.values, wanted, float(np.abs(logits).max()), clean - base[0])
    assert np.nanmax(np.abs(wanted)) > 0.2


@families
def test_patching_the_one_token_that_differs_recovers_everything(family):
    backend, plain = both(family)
    clean, other = backend.stimulus(CLEAN).ids, backend.stimulus(CORRUPT).ids
    (place,) = np.flatnonzero(clean != other)
    heat = trace(backend, CLEAN, CORRUPT)
    gap = abs(heat.clean_metric - heat.corrupt_metric)
    tolerance = TOLERANCE * float(np.abs(logits_of(plain, clean)).max()) / gap
    assert heat.values[0, 0, place] == pytest.approx(1, abs=tolerance)
    assert heat.values[0, LAYERS, -1] == pytest.approx(1, abs=tolerance)  # the last residual is the answer
    np.testing.assert_allclose(heat.values[:, :LAYERS, :place], 0, atol=tolerance)  # a shared prefix cannot differ
    np.testing.assert_allclose(heat.values[0, LAYERS, :-1], 0, atol=tolerance)
    assert np.isnan(heat.values[1:, LAYERS]).all()


@families
@pytest.mark.parametrize("window", [1, 2])
def test_a_noise_trace_equals_the_naive_loop_on_the_same_draws(family, window, template):
    """ROME's noise, drawn here by the documented recipe, not taken from the code under test."""
    backend, plain = both(family)
    ids = backend.stimulus(CLEAN).ids
    logits = logits_of(plain, ids)
    tokens = top_two(logits)
    marked, draws, seed = [5, 2], 6, 11
    random = np.random.default_rng(seed)
    spread = 3.0 * template(family).embedding_std
    bases = []
    for _ in range(draws):
        noise = torch.zeros(len(ids), backend.info.d_model)
        noise[sorted(marked)] = torch.tensor(spread * random.standard_normal((2, backend.info.d_model))).float()
        bases.append((ids, [(plain.blocks[0], "in", lambda x, noise=noise: x + noise[None])]))
    wanted, runs, clean, corrupt = naive_trace(plain, ids, bases, tokens, window=window, layers=[0, 2, 3])
    heat = trace(backend, CLEAN, window=window, layers=[0, 2, 3], marked=marked, draws=draws, seed=seed, method="noise")
    gap = clean - corrupt.mean()
    standard_error = corrupt.std(ddof=1) / draws**0.5
    assert heat.marked == (2, 5)
    assert heat.tokens == heat.corrupt_tokens
    assert heat.corrupt_metric == pytest.approx(corrupt.mean(), abs=1e-4 * float(np.abs(logits).max()))
    if abs(gap) < 3 * standard_error:
        assert np.isnan(heat.values).all()
        assert "under 3 standard errors" in heat.note
        return
    same(heat.values, wanted, float(np.abs(logits).max()), gap)
    # the standard error of a ratio of means, by the jackknife
    keep = [np.delete(np.arange(draws), draw) for draw in range(draws)]
    left = np.stack([(runs[k].mean(0) - corrupt[k].mean()) / (clean - corrupt[k].mean()) for k in keep])
    jackknife = ((left - left.mean(0)) ** 2).sum(0) ** 0.5 * ((draws - 1) / draws) ** 0.5
    measured = ~np.isnan(jackknife)
    np.testing.assert_array_equal(np.isnan(heat.stderr), ~measured)
    np.testing.assert_allclose(
        heat.stderr[measured],
        jackknife[measured],
        rtol=0.6,
        atol=0.02 + TOLERANCE * float(np.abs(logits).max()) / abs(gap),
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_a_cell_that_cannot_matter_is_certain(family):
    """Draws are the same in the patched and the corrupted run: where nothing changes, nothing is uncertain."""
    backend, _ = both(family)
    for seed in range(20):
        heat = trace(backend, CLEAN, marked=[3, 4], sites=["resid"], draws=4, seed=seed)
        if not heat.note:
            break
    assert not heat.note
    np.testing.assert_allclose(heat.values[0, LAYERS, :-1], 0, atol=1e-5)
    np.testing.assert_allclose(heat.stderr[0, LAYERS, :-1], 0, atol=1e-5)
    assert heat.values[0, LAYERS, -1] == pytest.approx(1, abs=1e-4)
    assert heat.stderr[0, LAYERS, -1] == pytest.approx(0, abs=1e-4)
    assert heat.stderr[0, 1, 3:].max() > 1e-3


@families
def test_subsets_are_cells_of_the_whole(family):
    backend, _ = both(family)
    whole = trace(backend, CLEAN, OTHER, window=2)
    some = trace(backend, CLEAN, OTHER, window=2, sites=("mlp", "resid"), layers=[-1, 1], positions=[4, -2])
    gap = abs(whole.clean_metric - whole.corrupt_metric)
    wanted = np.full_like(some.values, np.nan)
    for place, site in enumerate((2, 0)):
        for row in (1, LAYERS):
            wanted[place, row, [4, -2]] = whole.values[site, row, [4, -2]]
    same(some.values, wanted, 5.0, gap)
    assert some.sites == ("mlp", "resid")


@families
def test_at_another_position(family):
    backend, plain = both(family)
    ids, other = backend.stimulus(CLEAN).ids, backend.stimulus(OTHER).ids
    wanted, _, clean, base = naive_trace(plain, ids, [(other, [])], (40, 77), position=7)
    heat = trace(backend, CLEAN, OTHER, target=40, foil=77, position=7)
    same(heat.values, wanted, 10.0, clean - base[0])
    assert not heat.values[:, :LAYERS, 8:].any()  # what comes later cannot matter


@families
def test_the_marked_token_is_the_one_whose_noise_hurts_most(family, template):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    tokens = top_two(logits_of(plain, stimulus.ids))
    spread = 3.0 * template(family).embedding_std
    means = {}
    for position in range(1, len(stimulus) - 1):
        random = np.random.default_rng(5)
        metrics = []
        for _ in range(4):
            noise = torch.zeros(len(stimulus), backend.info.d_model)
            noise[position] = torch.tensor(spread * random.standard_normal(backend.info.d_model)).float()
            with torch.no_grad():
                hook = (plain.blocks[0], "in", lambda x, noise=noise: x + noise[None])
                metrics.append(float(plain.metric(stimulus.ids, tokens, [hook])))
        means[position] = np.mean(metrics)
    heat = trace(backend, CLEAN, draws=4, seed=5, sites=["resid"], layers=[1])
    assert heat.marked == (min(means, key=means.get),)
    assert heat.provenance.config["marked"] == list(heat.marked)
    assert heat.provenance.seed == 5


def test_a_corruption_that_changes_nothing_leaves_the_map_blank_and_says_why():
    backend, _ = both("llama")
    # before the token that differs, clean and corrupted run are the same
    heat = trace(backend, CLEAN, CORRUPT, position=2)
    assert np.isnan(heat.values).all()
    assert "no more than rounding" in heat.note
    one_draw = trace(backend, CLEAN, draws=1, marked=[3], sites=["resid"])
    assert np.isnan(one_draw.values).all()
    assert "use more draws" in one_draw.note


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "guess"}, "method is one of"),
        ({"method": "counterfactual"}, "needs a corrupted prompt"),
        ({"method": "noise", "corrupt": CORRUPT}, "takes none"),
        ({"sites": []}, "sites is a list"),
        ({"sites": "resid"}, "sites is a list"),
        ({"sites": ["heads"]}, "site is one of"),
        ({"window": 0}, "window is a whole number from 1 to 3"),
        ({"window": 4}, "window is a whole number from 1 to 3"),
        ({"draws": 0}, "draws is a whole number"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"seed": 0.5}, "a seed is a whole number"),
        ({"layers": [4]}, "layer 4 is outside"),
        ({"layers": []}, "the trace has no cell"),
        ({"positions": []}, "the trace has no cell"),
        ({"sites": ["attn", "mlp"], "layers": [3]}, "the trace has no cell"),
        ({"positions": [16]}, "position 16 is outside the prompt"),
        ({"position": 20}, "position 20 is outside the prompt"),
        ({"marked": []}, "no token is marked"),
        ({"marked": [99]}, "marked position 99 is outside"),
        ({"corrupt": CLEAN}, "are the same"),
        ({"corrupt": CLEAN + "4"}, "equally many tokens"),
    ],
)
def test_what_does_not_fit_is_refused(options, reason):
    backend, _ = both("llama")
    with pytest.raises(InputError, match=reason):
        trace(backend, CLEAN, **options)


@families
def test_a_trace_leaves_no_trace_also_when_it_is_withdrawn(family):
    backend, _ = both(family)
    fingerprint, hooks = backend.fingerprint(), hooks_left(backend.hf_model)
    whole = trace(backend, CLEAN, OTHER)

    def half_way(share, what):
        if share >= 0.5:
            raise Cancelled("withdrawn")

    for options in ({"corrupt": OTHER}, {"marked": [3], "draws": 3}, {"draws": 3}):
        with pytest.raises(Cancelled):
            trace(backend, CLEAN, **options, progress=half_way)
    with pytest.raises(Cancelled, match="was not started"):
        trace(backend, CLEAN, OTHER, confirm=lambda seconds: False)
    assert backend.fingerprint() == fingerprint
    assert hooks_left(backend.hf_model) == hooks
    np.testing.assert_array_equal(trace(backend, CLEAN, OTHER).values, whole.values)


def test_a_saved_heat_map_opens_as_it_was():
    backend, _ = both("qwen2")
    for heat in (trace(backend, CLEAN, OTHER, layers=[0, 1]), trace(backend, CLEAN, marked=[2, 4], draws=3)):
        with tempfile.TemporaryDirectory() as folder:
            again = Heatmap.open(heat.save(Path(folder) / "heat.npz"))
        np.testing.assert_array_equal(again.values, heat.values)
        np.testing.assert_array_equal(again.stderr, heat.stderr)
        for name in (
            "sites", "tokens", "corrupt_tokens", "clean_metric", "corrupt_metric", "target", "foil", "marked", "method",
            "note", "units", "provenance",
        ):  # fmt: skip
            assert getattr(again, name) == getattr(heat, name), name
        assert again.to_xarray().dims == ("site", "layer", "position")
