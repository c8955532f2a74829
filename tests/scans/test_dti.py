"""DTI against autograd and interventions on plain Hugging Face models; its identities on every family."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nmri3d import scan
from nmri3d.errors import Cancelled, InputError
from nmri3d.models import transformer
from nmri3d.results import open_scan
from nmri3d.scans import dti
from tests.models.backends import tiny_backend
from tests.models.tiny import FAMILIES
from tests.perturbation.cases import CLEAN, CORRUPT, OTHER, both, families, hooks_left, top_two
from tests.perturbation.conftest import template  # noqa: F401  # tiny models take the short template here too
from tests.perturbation.doubles import doubles


def write_gradients(plain, ids, tokens, position=-1, entrance=None):
    """dm/dw of every component, by id, [T, d_model]: autograd through plain hooks that add zero to each write.

    entrance [T, d_model] replaces what enters block 0, as a step of integrated gradients needs.
    """
    zeros = {name: torch.zeros_like(write).requires_grad_() for name, write in plain.writes(ids).items()}
    hooks = [plain.adding(name, zero) for name, zero in zeros.items()]
    if entrance is not None:
        hooks = [(plain.blocks[0], "in", lambda x: entrance[None] + 0 * x), *hooks]
    found = torch.autograd.grad(plain.metric(ids, tokens, hooks, position), list(zeros.values()))
    return dict(zip(zeros, found, strict=True))


def tokens_of(backend, plain, position=-1):
    with torch.no_grad():
        logits = plain.logits(backend.stimulus(CLEAN).ids)[position].numpy()
    return top_two(logits), float(np.abs(logits).max())


@families
@pytest.mark.parametrize("position", [-1, 6])
def test_dla_adds_up_to_the_logit_difference_before_the_softcap(family, position):
    backend, plain = both(family)
    ids = backend.stimulus(CLEAN).ids
    found = scan(backend, "DTI", CLEAN, method="dla", edges="none", target=40, foil=77, position=position)
    with torch.no_grad():
        logits = plain.logits(ids, before_softcap=True)[position]
    scale = float(logits.abs().max())
    assert not np.isnan(found.values).any()
    assert found.values.sum(dtype=np.float64) == pytest.approx(float(logits[40] - logits[77]), abs=1e-4 * scale)
    assert float(found.details["remainder"]) == pytest.approx(0, abs=1e-4 * scale)
    biases = backend.components.rows("attn_bias")
    assert len(biases) == (3 if plain.has_bias(0) else 0)
    assert np.all(found.values[0, biases] != 0)


@families
def test_dla_of_each_row_is_its_write_through_the_frozen_norm(family):
    """The final norm written out by hand, with the scale of the clean run."""
    backend, plain = both(family)
    ids = backend.stimulus(CLEAN).ids
    found = scan(backend, "DTI", CLEAN, method="dla", edges="none", target=40, foil=77).values[0]
    norm, final = plain.final_norm, plain.seen(ids)["resid", plain.n_layers][-1]
    with torch.no_grad():
        unembed = plain.model.get_output_embeddings().weight
        direction = unembed[40] - unembed[77]
        centered = hasattr(norm, "bias")
        gain = norm.weight + 1 if family == "gemma2" else norm.weight
        eps = getattr(norm, "eps", None) or norm.variance_epsilon
        spread = ((final - final.mean() if centered else final).pow(2).mean() + eps).rsqrt()
        for name, write in plain.writes(ids).items():
            w = write[-1] - write[-1].mean() if centered else write[-1]
            wanted = float((w * spread * gain) @ direction)
            assert found[backend.components.row(name)] == pytest.approx(wanted, abs=1e-4), name
        constant = float(norm.bias @ direction) if centered else 0.0
    assert found[backend.components.row("unembed")] == pytest.approx(constant, abs=1e-4)


@families
@pytest.mark.parametrize(("effect", "corrupt"), [("patch", OTHER), ("zero", None), ("mean", None)])
def test_atp_is_the_gradient_times_the_difference(family, effect, corrupt, template):  # noqa: F811
    backend, plain = both(family)
    ids = backend.stimulus(CLEAN).ids
    tokens, scale = tokens_of(backend, plain)
    found = scan(backend, "DTI", CLEAN, corrupt=corrupt, effect=effect, method="atp", edges="none")
    assert (int(found.details["target"]), int(found.details["foil"])) == tokens
    writes, gradients = plain.writes(ids), write_gradients(plain, ids, tokens)
    other = plain.writes(backend.stimulus(OTHER).ids)
    for name, write in writes.items():
        row = backend.components.row(name)
        replaced = torch.zeros_like(write) if effect == "zero" else other[name]
        if effect == "mean":
            replaced = torch.tensor(template(family).mean[row]).expand_as(write).clone()
            replaced[0] = write[0]
        wanted = ((write - replaced) * gradients[name]).sum(-1)
        np.testing.assert_allclose(found.details["per_position"][:, row], wanted, atol=2e-4 * scale, err_msg=name)
        assert found.values[0, row] == pytest.approx(float(wanted.sum()), abs=5e-4 * scale)
    assert np.isnan(found.values[0, backend.components.row("unembed")])


@families
def test_a_writers_edges_sum_to_its_atp_score(family):
    backend, _ = both(family)
    for effect, corrupt in (("patch", OTHER), ("zero", None), ("mean", None)):
        found = scan(backend, "DTI", CLEAN, corrupt=corrupt, effect=effect, method="atp", edges="eap")
        tracts, table = found.tracts, backend.components
        assert len(tracts) == tracts.count <= dti.KEPT_EDGES
        assert tracts.total == pytest.approx(np.abs(tracts.score).sum(), rel=1e-5)
        scale = float(np.nanmax(np.abs(found.values)))
        for row in np.flatnonzero(~np.isin(table.kind, ["unembed", "attn_bias"])):
            edges = tracts.score[tracts.source == row].sum(dtype=np.float64)
            assert edges == pytest.approx(found.values[0, row], abs=2e-4 * scale), (effect, table.ids[row])


@families
def test_edges_of_integrated_gradients_sum_to_the_node_score_with_the_same_gradient(family):
    """Autograd on plain passes at the midpoints between the two embeddings, averaged."""
    backend, plain = both(family)
    ids, other = backend.stimulus(CLEAN).ids, backend.stimulus(OTHER).ids
    tokens, _ = tokens_of(backend, plain)
    steps = 3
    found = scan(backend, "DTI", CLEAN, corrupt=OTHER, edges="eap-ig", steps=steps)
    clean, corrupt = plain.writes(ids), plain.writes(other)
    total = {name: torch.zeros_like(write) for name, write in clean.items()}
    for step in range(steps):
        share = (step + 0.5) / steps
        entrance = corrupt["embed"] + share * (clean["embed"] - corrupt["embed"])
        for name, gradient in write_gradients(plain, ids, tokens, entrance=entrance).items():
            total[name] += gradient / steps
    scores = {name: float(((clean[name] - corrupt[name]) * total[name]).sum()) for name in clean}
    scale = max(map(abs, scores.values()))
    for name, score in scores.items():
        if name.endswith("b_O"):
            continue
        edges = found.tracts.score[found.tracts.source == backend.components.row(name)].sum(dtype=np.float64)
        assert edges == pytest.approx(score, abs=1e-3 * scale), name


@pytest.mark.parametrize("family", FAMILIES)
def test_intervention_proof(family, monkeypatch):
    """Float64: moving a write a fraction e to its baseline changes m by -e (w - b).dm/dw, and halving e quarters the error.

    The interventions are plain hooks on a plain model; the score is that of the scan.
    """
    backend, plain = doubles(family, monkeypatch)
    found = scan(backend, "DTI", CLEAN, corrupt=OTHER, method="atp", edges="none", target=40, foil=77)
    ids = backend.stimulus(CLEAN).ids
    clean, other = plain.writes(ids), plain.writes(backend.stimulus(OTHER).ids)
    fraction = 1e-3
    proven = 0
    with torch.no_grad():
        unedited = float(plain.metric(ids, (40, 77)))
        for name, write in clean.items():
            score = float(found.values[0, backend.components.row(name)])
            errors = []
            for e in (fraction, fraction / 2):
                moved = float(plain.metric(ids, (40, 77), [plain.adding(name, e * (other[name] - write))]))
                errors.append(moved - unedited + e * score)
            largest = max(abs(score), 1e-2)
            assert abs(errors[0]) < 0.05 * fraction * largest, name  # the change is -e (w - b).dm/dw
            if abs(errors[0]) > 30 * fraction * 1e-7 * largest:  # the score is kept in float32
                assert errors[1] / errors[0] == pytest.approx(1 / 4, abs=0.03), name
                proven += 1
    assert proven >= 0.8 * len([name for name in clean if not name.endswith("b_O")])


@families
def test_exact_scores_are_interventions_of_plain_hooks(family):
    backend, plain = both(family)
    ids = backend.stimulus(CLEAN).ids
    tokens, scale = tokens_of(backend, plain)
    exact = scan(backend, "DTI", CLEAN, corrupt=OTHER, method="exact", edges="none")
    auto = scan(backend, "DTI", CLEAN, corrupt=OTHER)
    assert auto.provenance.config["method"] == "exact"
    assert auto.provenance.config["effect"] == "patch"
    np.testing.assert_allclose(auto.values, exact.values, atol=1e-5)
    other, writes = plain.writes(backend.stimulus(OTHER).ids), plain.writes(ids)
    with torch.no_grad():
        clean = float(plain.metric(ids, tokens))
        for name, write in writes.items():
            wanted = clean - float(plain.metric(ids, tokens, [plain.adding(name, other[name] - write)]))
            assert exact.values[0, backend.components.row(name)] == pytest.approx(wanted, abs=1e-4 * scale), name
    assert float(exact.details["clean_metric"]) == pytest.approx(clean, abs=1e-4 * scale)
    assert np.isnan(exact.details["baseline_metric"])
    assert auto.signed
    assert auto.tokens == ()
    assert auto.values.shape == (1, len(backend.components))
    assert auto.details["prompt_tokens"].tolist() == list(backend.stimulus(CLEAN).labels)


def test_auto_takes_the_preview_where_exact_is_too_slow(monkeypatch):
    backend, _ = both("llama")
    monkeypatch.setattr(dti, "AFFORDABLE", -1.0)
    assert scan(backend, "DTI", CLEAN).provenance.config["method"] == "atp"
    assert scan(backend, "DTI", CLEAN, method="exact").provenance.config["method"] == "exact"


@families
def test_the_faithfulness_shown_is_that_of_the_circuit_drawn(family, monkeypatch):
    backend, plain = both(family)
    tokens, scale = tokens_of(backend, plain)
    found = scan(backend, "DTI", CLEAN, corrupt=OTHER, share=1.0, method="atp")
    assert float(found.details["faithfulness"]) == pytest.approx(1, abs=5e-3)
    with torch.no_grad():
        wanted = float(plain.metric(backend.stimulus(OTHER).ids, tokens))
    assert float(found.details["baseline_metric"]) == pytest.approx(wanted, abs=1e-4 * scale)
    drawn = found.tracts.pruned(0.3)
    carried = np.abs(drawn.score).sum()
    assert carried >= 0.3 * found.tracts.total > carried - np.abs(drawn.score).min()
    monkeypatch.setattr(dti, "KEPT_EDGES", 7)
    few = scan(backend, "DTI", CLEAN, corrupt=OTHER, method="atp").tracts
    assert len(few) == 7
    assert few.count == found.tracts.count
    assert few.total == pytest.approx(found.tracts.total, rel=1e-5)
    np.testing.assert_allclose(few.score, found.tracts.score[:7], rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "qwen3"])
def test_block_by_block_gradients_give_the_same_scan(family, monkeypatch):
    """What a prompt of 1,024 tokens takes, forced here."""
    backend, _ = both(family)
    whole = scan(backend, "DTI", CLEAN, corrupt=OTHER, method="atp")
    monkeypatch.setattr(transformer, "GRAPH_BYTES", 0)
    by_block = scan(backend, "DTI", CLEAN, corrupt=OTHER, method="atp")
    np.testing.assert_allclose(by_block.values, whole.values, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(by_block.tracts.score, whole.tracts.score, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "guess"}, "method is one of auto, exact, atp, dla"),
        ({"edges": "all"}, "edges is one of eap, eap-ig, none"),
        ({"effect": "delete"}, "effect is one of zero, mean, patch"),
        ({"edges": "eap-ig"}, "give one"),
        ({"steps": 0}, "steps is a whole number"),
        ({"share": 0.0}, "share lies above 0"),
        ({"share": 1.5}, "share lies above 0"),
        ({"effect": "patch"}, "takes writes from a corrupted prompt"),
        ({"effect": "zero", "corrupt": OTHER}, "'zero' and 'mean' take none"),
        ({"corrupt": CLEAN}, "are the same"),
        ({"corrupt": CLEAN + "4"}, "equally many tokens"),
        ({"target": " Mary and John"}, "a target is one"),
        ({"target": 7, "foil": 7}, "the same token"),
        ({"position": 99}, "outside the prompt"),
        ({"layers": [1]}, "has no option 'layers'"),
    ],
)
def test_what_does_not_fit_is_refused(options, reason):
    backend, _ = both("llama")
    with pytest.raises(InputError, match=reason):
        scan(backend, "DTI", CLEAN, **options)


@families
def test_a_scan_leaves_no_trace_also_when_it_is_withdrawn(family):
    backend, _ = both(family)
    fingerprint, hooks = backend.fingerprint(), hooks_left(backend.hf_model)
    for options in ({"corrupt": OTHER, "edges": "eap-ig"}, {"corrupt": CORRUPT}, {"effect": "zero", "method": "dla"}):
        whole = scan(backend, "DTI", CLEAN, **options)
        for stop in (0.3, 0.6, 0.8):

            def withdraw(share, what, stop=stop):
                if share >= stop:
                    raise Cancelled("withdrawn")

            with pytest.raises(Cancelled):
                scan(backend, "DTI", CLEAN, **options, progress=withdraw)
        assert hooks_left(backend.hf_model) == hooks
        np.testing.assert_array_equal(scan(backend, "DTI", CLEAN, **options).values, whole.values)
    assert backend.fingerprint() == fingerprint
    assert all(parameter.grad is None for parameter in backend.hf_model.parameters())


def test_an_exception_inside_a_gradient_leaves_no_trace(monkeypatch):
    backend, _ = both("llama")
    fingerprint, hooks = backend.fingerprint(), hooks_left(backend.hf_model)

    def broken(final):
        raise ZeroDivisionError("in the metric")

    with pytest.raises(ZeroDivisionError):
        backend.gradients(backend.stimulus(CLEAN), broken)
    assert hooks_left(backend.hf_model) == hooks
    assert backend.fingerprint() == fingerprint


def test_a_saved_scan_opens_with_its_tracts():
    backend, _ = both("gemma2")
    for options in ({"corrupt": OTHER}, {"edges": "none", "method": "atp", "effect": "zero"}):
        found = scan(backend, "DTI", CLEAN, **options)
        with tempfile.TemporaryDirectory() as folder:
            again = open_scan(found.save(Path(folder) / "dti"))
        np.testing.assert_array_equal(again.values, found.values)
        assert again.details.keys() == found.details.keys()
        for name, detail in found.details.items():
            np.testing.assert_array_equal(again.details[name], detail)
        assert again.provenance == found.provenance
        if found.tracts is None:
            assert again.tracts is None
            continue
        for name in ("source", "target", "slot", "score"):
            np.testing.assert_array_equal(getattr(again.tracts, name), getattr(found.tracts, name))
        assert (again.tracts.total, again.tracts.count) == (found.tracts.total, found.tracts.count)
        assert len(again.tracts.touching(backend.components.row("embed"))) > 0


def test_a_scan_names_the_baseline_of_its_edges_whatever_its_nodes_are():
    """Verifying an edge must replace the writer by what its score replaced it by, also beside direct attribution."""
    found = scan(tiny_backend("llama"), "DTI", "The capital of France is", method="dla", effect="zero")
    assert found.provenance.config["effect"] is None
    assert found.provenance.config["baseline"] == "zero"
