"""Composition scores against full d_model x d_model matrices, for every family; chance; the sketch; features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmri3d.errors import Cancelled
from nmri3d.models.circuit_features import circuit_features
from nmri3d.models.composition import SLOTS, Composition, composition_scores
from tests.models.backends import tiny_backend
from tests.models.tiny import FAMILIES

families = pytest.mark.parametrize("family", FAMILIES)


def effective_gain(norm):
    """A norm's gain from its parameters, Gemma's 1 + w included."""
    if norm is None:
        return 1.0
    weight = norm.weight.detach().double()
    return 1 + weight if type(norm).__name__.startswith("Gemma") else weight


def behind(norm, weight):
    """A reading matrix [d_model, k] with the norm before it, written out as one linear map."""
    d_model = len(weight)
    center = torch.eye(d_model, dtype=torch.float64)
    if isinstance(norm, torch.nn.LayerNorm):
        center -= 1 / d_model
    return center @ torch.diag(torch.as_tensor(effective_gain(norm)).expand(d_model)) @ weight.double()


def full_matrices(backend):
    """What every row writes by, [r, d_model], and reads by, slot -> [d_model, k]; the stage of the stream it belongs to."""
    components, writes, reads, stage = backend.components, {}, {}, {}
    modules = backend._modules
    for row in range(len(components)):
        kind, layer = components.kind[row], int(components.layer[row])
        weights = {name: weight.double() for name, weight in backend.weights(row).items()}
        block = modules.blocks[layer] if layer >= 0 else None
        if kind == "embed":
            writes[row], stage[row] = weights["W_E"], -1
        elif kind == "unembed":
            reads[row] = {"in": behind(modules.final_norm, backend.hf_model.get_output_embeddings().weight.T)}
            stage[row] = 10**6
        elif kind == "head":
            q, k, v = (behind(block.norm_before_attn, weights[name]) for name in ("W_Q", "W_K", "W_V"))
            writes[row] = v @ weights["W_O"] * effective_gain(block.norm_after_attn)
            reads[row] = {"q": q @ k.T, "k": k @ q.T, "v": v @ weights["W_O"]}
            stage[row] = 2 * layer
        elif kind == "mlp":
            writes[row] = weights["W_out"] * effective_gain(block.norm_after_mlp)
            parts = [behind(block.norm_before_mlp, w) for name, w in weights.items() if name != "W_out"]
            reads[row] = {"in": torch.cat([part / part.norm() for part in parts], dim=1)}
            stage[row] = 2 * layer + (not modules.parallel)
    return writes, reads, stage


@families
def test_scores_are_those_of_the_full_matrices(family):
    backend = tiny_backend(family)
    writes, reads, stage = full_matrices(backend)
    composition = backend.composition()
    assert composition.exact
    assert composition.chance == pytest.approx(backend.info.d_model**-0.5)
    expected = np.full_like(composition.score, np.nan)
    for writer, a in writes.items():
        for reader, slots in reads.items():
            if stage[writer] >= stage[reader]:
                continue
            for slot, b in slots.items():
                expected[SLOTS.index(slot), writer, reader] = (a @ b).norm() / (a.norm() * b.norm())
    assert np.isfinite(expected).sum() > 100
    np.testing.assert_allclose(composition.score, expected, rtol=2e-4)


def test_chance_is_the_root_mean_square_of_matrices_turned_at_random():
    backend = tiny_backend("llama")
    writes, reads, _ = full_matrices(backend)
    a = writes[backend.components.row("blocks.0.attn.head_1")]
    b = reads[backend.components.row("blocks.2.attn.head_3")]["q"]
    generator = torch.Generator().manual_seed(0)
    square = []
    for _ in range(400):
        turn = torch.linalg.qr(torch.randn(len(b), len(b), generator=generator, dtype=torch.float64)).Q
        square.append(float((a @ turn @ b).norm() / (a.norm() * b.norm())) ** 2)
    assert np.mean(square) ** 0.5 == pytest.approx(backend.composition().chance, rel=0.05)


def test_the_sketch_is_right_on_average():
    backend = tiny_backend("qwen2")
    exact = backend.composition()
    arguments = (backend._modules, backend.components, backend.info.d_model)
    rough = composition_scores(*arguments, backend._attention_weights, backend._mlp_weights, exact=False)
    known = np.isfinite(exact.score)
    assert not rough.exact
    assert np.array_equal(np.isfinite(rough.score), known)
    ratio = rough.score[known] ** 2 / exact.score[known] ** 2
    assert ratio.mean() == pytest.approx(1, abs=0.1)
    assert ratio.std() > 0.01, "nothing was sketched"


def test_progress_is_reported_and_can_withdraw():
    backend, told = tiny_backend("gpt2"), []
    backend.circuit_features(lambda share, what: told.append(share))
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] <= 1

    def withdraw(share, what):
        raise Cancelled("no more")

    with pytest.raises(Cancelled):
        backend.circuit_features(withdraw)


@families
def test_features_are_finite_and_zero_without_a_place(family):
    backend = tiny_backend(family)
    features = backend.circuit_features()
    placed = np.isin(np.arange(len(backend.components)), backend.components.cortical)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert not features[~placed].any()
    assert (np.linalg.norm(features[placed], axis=1) > 0).all()
    # blocks of weights 1, 0.5, 0.3 and 0.3: the mean square of all is the sum of theirs
    assert (features[placed] ** 2).sum(axis=1).mean() == pytest.approx(1 + 0.25 + 2 * 0.09, rel=1e-3)
    assert np.allclose(features[placed].mean(axis=0), 0, atol=1e-4)


def test_who_composes_with_the_same_is_near():
    """Heads 0 and 1 read from the same writers, 2 from others: composition alone must tell."""
    backend = tiny_backend("llama")
    components = backend.components
    n = len(components)
    score = np.full((len(SLOTS), n, n), np.nan, dtype=np.float32)
    rows = components.rows("head", 2)[:3]
    score[0, : rows[0], rows] = 0.2
    score[0, 1:4, rows[:2]] = 0.6
    score[0, 4:7, rows[2]] = 0.6
    found = circuit_features(components, np.zeros((n, 1), np.float32), Composition(score, 0.2, True))[rows]
    assert np.linalg.norm(found[0] - found[1]) < 0.1 * np.linalg.norm(found[0] - found[2])
