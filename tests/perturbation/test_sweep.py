"""Exact sweeps against the naive loop: one whole Hugging Face pass a component, with one plain hook."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nmri3d import ablate_all
from nmri3d.errors import Cancelled, InputError
from nmri3d.results import Sweep
from tests.perturbation.cases import CLEAN, CORRUPT, OTHER, both, families, hooks_left, top_two


def naive_sweep(backend, plain, prompt, effect, source, template, tokens, position=-1):
    """Change of the metric, by component id."""
    ids = backend.stimulus(prompt).ids
    writes = plain.writes(ids)
    other = plain.writes(backend.stimulus(source).ids) if effect == "patch" else {}
    with torch.no_grad():
        clean = float(plain.metric(ids, tokens, position=position))
        changes = {}
        for name, write in writes.items():
            if effect == "zero":
                replaced = torch.zeros_like(write)
            elif effect == "patch":
                replaced = other[name]
            else:  # the template's mean, and position 0 as it is
                mean = torch.tensor(template.mean[backend.components.row(name)])
                replaced = torch.cat([write[:1], mean.expand(len(write) - 1, -1)])
            hook = plain.adding(name, replaced - write)
            changes[name] = float(plain.metric(ids, tokens, [hook], position)) - clean
    return changes, clean


@families
@pytest.mark.parametrize(("effect", "source"), [("zero", None), ("mean", None), ("patch", OTHER), ("patch", CORRUPT)])
def test_a_sweep_equals_the_naive_loop(family, effect, source, template):
    backend, plain = both(family)
    with torch.no_grad():
        logits = plain.logits(backend.stimulus(CLEAN).ids)[-1].numpy()
    tokens = top_two(logits)
    wanted, clean = naive_sweep(backend, plain, CLEAN, effect, source, template(family), tokens)
    sweep = ablate_all(backend, CLEAN, effect=effect, corrupt=source)
    scale = float(np.abs(logits).max())
    assert (sweep.target[1], sweep.foil[1], sweep.effect) == (*tokens, effect)
    assert sweep.clean_metric == pytest.approx(clean, abs=1e-4 * scale)
    assert {name for name, value in zip(backend.components.ids, sweep.values, strict=True) if np.isnan(value)} == {
        "unembed"
    }
    for name, value in wanted.items():
        assert sweep.values[backend.components.row(name)] == pytest.approx(value, abs=1e-4 * scale), name
    assert max(map(abs, wanted.values())) > 1e-2 * scale
    if effect == "patch":  # a bias is the same on both prompts, but for the scale of a post-norm
        for row in backend.components.rows("attn_bias"):
            assert sweep.values[row] == 0


@families
def test_at_another_position_and_with_chosen_tokens(family):
    backend, plain = both(family)
    wanted, clean = naive_sweep(backend, plain, CLEAN, "patch", CORRUPT, None, (40, 77), position=8)
    sweep = ablate_all(backend, CLEAN, effect="patch", corrupt=CORRUPT, target=40, foil=77, position=8)
    assert sweep.clean_metric == pytest.approx(clean, abs=1e-4)
    for name, value in wanted.items():
        assert sweep.values[backend.components.row(name)] == pytest.approx(value, abs=2e-4), name
    # what comes before the token that differs cannot be touched by it
    before = ablate_all(backend, CLEAN, effect="patch", corrupt=CORRUPT, target=40, foil=77, position=2)
    assert not np.nan_to_num(before.values).any()


@families
def test_a_few_components_give_the_same_and_nan_elsewhere(family):
    backend, _ = both(family)
    whole = ablate_all(backend, CLEAN)
    names = ["blocks.2.mlp", "blocks.0.attn.head_3", "embed", "blocks.1.attn.h1"]
    some = ablate_all(backend, CLEAN, components=names)
    rows = [backend.components.row(name) for name in names]
    np.testing.assert_allclose(some.values[rows], whole.values[rows], atol=2e-5)
    assert np.isnan(np.delete(some.values, rows)).all()
    assert some.to_pandas()["component"].tolist() == [
        backend.components.ids[row] for row in sorted(rows, key=lambda row: -abs(some.values[row]))
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"components": []}, "a list of ids"),
        ({"components": "embed"}, "a list of ids"),
        ({"components": ["unembed"]}, "writes nothing"),
        ({"components": ["blocks.9.mlp"]}, "no component"),
        ({"components": ["blocks.1.mlp.neuron_3"]}, "no component"),
        ({"effect": "delete"}, "effect is one of zero, mean, patch"),
        ({"effect": "patch"}, "takes writes from a corrupted prompt"),
        ({"effect": "zero", "corrupt": CORRUPT}, "'zero' and 'mean' take none"),
        ({"effect": "patch", "corrupt": CLEAN}, "are the same"),
        ({"effect": "patch", "corrupt": CLEAN + "4"}, "equally many tokens"),
        ({"position": 16}, "outside the prompt"),
        ({"target": 3, "foil": 3}, "the same token"),
    ],
)
def test_what_does_not_fit_is_refused(options, reason):
    backend, _ = both("llama")
    with pytest.raises(InputError, match=reason):
        ablate_all(backend, CLEAN, **options)


@families
def test_a_sweep_leaves_no_trace_also_when_it_is_withdrawn(family):
    backend, _ = both(family)
    fingerprint, hooks = backend.fingerprint(), hooks_left(backend.hf_model)
    whole = ablate_all(backend, CLEAN)
    shares = []

    def half_way(share, what):
        shares.append(share)
        if share >= 0.5:
            raise Cancelled("withdrawn")

    with pytest.raises(Cancelled):
        ablate_all(backend, CLEAN, progress=half_way)
    assert 0 <= min(shares) < 0.5 <= max(shares) <= 1
    asked = []
    with pytest.raises(Cancelled, match="was not started"):
        ablate_all(backend, CLEAN, confirm=lambda seconds: asked.append(seconds))
    assert len(asked) == 1
    assert asked[0] >= 0
    assert backend.fingerprint() == fingerprint
    assert hooks_left(backend.hf_model) == hooks
    np.testing.assert_array_equal(ablate_all(backend, CLEAN).values, whole.values)


def test_a_saved_sweep_opens_as_it_was():
    backend, _ = both("gpt2")
    sweep = ablate_all(backend, CLEAN, effect="patch", corrupt=OTHER, components=["embed", "blocks.1.mlp"])
    with tempfile.TemporaryDirectory() as folder:
        again = Sweep.open(sweep.save(Path(folder) / "sweep"))
    np.testing.assert_array_equal(again.values, sweep.values)
    assert again.values.dtype == np.float32
    for name in ("units", "clean_metric", "target", "foil", "effect", "components", "provenance"):
        assert getattr(again, name) == getattr(sweep, name), name
    assert "minus logit of" in again.units
    assert again.provenance.config["corrupt"] == OTHER
