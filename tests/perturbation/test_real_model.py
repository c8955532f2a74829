"""The identities on the real default model, against plain hooks on a second copy of it that transformers loaded alone."""

import numpy as np
import pytest
import torch

import nmri3d
from nmri3d import Edit, ablate_all, perturb, trace, verify_edge
from nmri3d.perturbation.baselines import baseline
from nmri3d.perturbation.metric import logit_difference
from nmri3d.perturbation.paths import faithfulness
from nmri3d.scans.edges import GradientPass, edge_attribution
from nmri3d.template import template_of
from tests.perturbation.cases import hooks_left
from tests.perturbation.plain import Plain

pytestmark = pytest.mark.model

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
COMPONENTS = (
    "embed", "blocks.0.mlp", "blocks.0.attn.head_4", "blocks.11.mlp", "blocks.17.attn.head_4", "blocks.23.attn.head_3",
    "blocks.29.attn.head_0", "blocks.29.mlp",
)  # fmt: skip


@pytest.fixture(scope="module")
def plain(smollm2):
    from transformers import AutoModelForCausalLM

    from nmri3d.models.embedded import locate_embedded

    folder = locate_embedded(lambda share, what: None).folder
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    yield Plain(model.requires_grad_(False), "llama")
    assert smollm2.fingerprint() == smollm2.info.fingerprint
    assert hooks_left(smollm2.hf_model) == 0


@pytest.fixture(scope="module")
def tokens(smollm2):
    return smollm2.token_id(" Mary"), smollm2.token_id(" John")


@pytest.mark.parametrize("effect", ["zero", "mean", "patch"])
def test_a_sweep_equals_the_naive_loop(smollm2, plain, tokens, effect):
    ids = smollm2.stimulus(CLEAN).ids
    writes, other = plain.writes(ids), plain.writes(smollm2.stimulus(CORRUPT).ids)
    sweep = ablate_all(
        smollm2, CLEAN, effect=effect, corrupt=CORRUPT if effect == "patch" else None, target=" Mary", foil=" John",
        components=COMPONENTS,
    )  # fmt: skip
    with torch.no_grad():
        clean = float(plain.metric(ids, tokens))
        scale = float(plain.logits(ids)[-1].abs().max())
        assert sweep.clean_metric == pytest.approx(clean, abs=1e-4 * scale)
        for name in COMPONENTS:
            row, write = smollm2.components.row(name), writes[name]
            replaced = {"zero": torch.zeros_like(write), "patch": other[name]}.get(effect)
            if replaced is None:
                replaced = torch.tensor(template_of(smollm2).mean[row]).expand_as(write).clone()
                replaced[0] = write[0]
            wanted = float(plain.metric(ids, tokens, [plain.adding(name, replaced - write)])) - clean
            assert sweep.values[row] == pytest.approx(wanted, abs=1e-4 * scale), name


@pytest.mark.parametrize("window", [1, 3])
def test_a_trace_equals_the_naive_loop(smollm2, plain, tokens, window):
    ids, other = smollm2.stimulus(CLEAN).ids, smollm2.stimulus(CORRUPT).ids
    (differs,) = np.flatnonzero(ids != other).tolist()
    layers, positions = [0, 14, 24, 29], [differs, 13]
    heat = trace(
        smollm2, CLEAN, CORRUPT, target=" Mary", foil=" John", window=window, layers=layers, positions=positions
    )
    seen = plain.seen(ids)
    with torch.no_grad():
        clean, corrupt = float(plain.metric(ids, tokens)), float(plain.metric(other, tokens))
        scale = float(plain.logits(ids)[-1].abs().max())
        for place, site in enumerate(("resid", "attn", "mlp")):
            last = 30 if site == "resid" else 29
            for layer in layers:
                about = [m for m in range(layer - (window - 1) // 2, layer + window // 2 + 1) if 0 <= m <= last]
                for position in positions:
                    hooks = [plain.restoring(site, m, position, seen[site, m][position]) for m in about]
                    wanted = (float(plain.metric(other, tokens, hooks)) - corrupt) / (clean - corrupt)
                    found = heat.values[place, layer, position]
                    assert found == pytest.approx(wanted, abs=1e-4 * scale / abs(clean - corrupt)), (site, layer)
    # the token that differs carries everything at the bottom
    assert heat.values[0, 0, differs] == pytest.approx(1, abs=1e-4 * scale / abs(clean - corrupt))


def test_dla_adds_up_and_edges_sum_to_atp(smollm2, plain, tokens):
    ids = smollm2.stimulus(CLEAN).ids
    dla = nmri3d.scan(smollm2, "DTI", CLEAN, target=" Mary", foil=" John", method="dla", edges="none")
    with torch.no_grad():
        logits = plain.logits(ids)[-1]
    scale = float(logits.abs().max())
    assert dla.values.sum(dtype=np.float64) == pytest.approx(
        float(logits[tokens[0]] - logits[tokens[1]]), abs=1e-4 * scale
    )
    stimulus = smollm2.stimulus(CLEAN)
    chosen, recording = baseline(smollm2, stimulus, "patch", CORRUPT), smollm2.record(stimulus)
    metric = logit_difference(smollm2, recording.at(-1), " Mary", " John", -1)
    one = GradientPass(*smollm2.gradients(stimulus, metric.of_steps))
    tracts = edge_attribution(smollm2, recording, [one], chosen, keep=10**7)
    atp = nmri3d.scan(smollm2, "DTI", CLEAN, corrupt=CORRUPT, target=" Mary", foil=" John", method="atp", edges="none")
    table = smollm2.components
    writers = np.flatnonzero(table.kind != "unembed")
    sums = np.bincount(tracts.source, tracts.score.astype(float), minlength=len(table))
    np.testing.assert_allclose(sums[writers], atp.values[0, writers], atol=1e-3 * np.nanmax(np.abs(atp.values)))
    # and the gradient is that of the plain model: one head, one MLP, the embedding
    writes, other = plain.writes(ids), plain.writes(smollm2.stimulus(CORRUPT).ids)
    names = ("embed", "blocks.0.mlp", "blocks.23.attn.head_3")
    leaves = [torch.zeros_like(writes[name]).requires_grad_() for name in names]
    value = plain.metric(ids, tokens, [plain.adding(name, leaf) for name, leaf in zip(names, leaves, strict=True)])
    for name, gradient in zip(names, torch.autograd.grad(value, leaves), strict=True):
        wanted = float(((writes[name] - other[name]) * gradient).sum())
        assert atp.values[0, table.row(name)] == pytest.approx(wanted, rel=1e-3, abs=1e-3), name
    kept, none = faithfulness(smollm2, recording, chosen, metric, tracts)
    assert kept == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        assert none == pytest.approx(float(plain.metric(smollm2.stimulus(CORRUPT).ids, tokens)), abs=1e-4 * scale)


@pytest.mark.parametrize(
    ("source", "target", "slot"),
    [
        ("embed", "blocks.0.attn.head_7", "k"),
        ("blocks.0.mlp", "blocks.17.attn.head_4", "v"),
        ("blocks.19.attn.head_2", "blocks.23.attn.head_3", "q"),
        ("blocks.23.attn.head_3", "blocks.29.mlp", "mlp"),
        ("blocks.29.attn.head_1", "unembed", "logits"),
    ],
)
def test_an_edge_is_what_hand_written_path_patching_says(smollm2, plain, tokens, source, target, slot):
    ids = smollm2.stimulus(CLEAN).ids
    with torch.no_grad():
        delta = plain.writes(smollm2.stimulus(CORRUPT).ids)[source] - plain.writes(ids)[source]
        clean, scale = float(plain.metric(ids, tokens)), float(plain.logits(ids)[-1].abs().max())
        wanted = clean - float(plain.patched_edge(ids, tokens, target, slot, delta))
    found = verify_edge(smollm2, CLEAN, source, target, slot, corrupt=CORRUPT, target_token=" Mary", foil=" John")
    assert found == pytest.approx(wanted, abs=1e-4 * scale)


def test_edits_equal_plain_hooks_and_nothing_ablated_changes_nothing(smollm2, plain):
    ids = smollm2.stimulus(CLEAN).ids
    writes = plain.writes(ids)
    edits = [Edit("blocks.23.attn.head_3", "zero"), Edit("blocks.11.mlp", "amplify", factor=0.5, positions=[0, -1])]
    half = torch.zeros_like(writes["embed"])
    half[[0, -1]] = -0.5 * writes["blocks.11.mlp"][[0, -1]]

    def silence(z):
        return torch.cat([z[..., : 3 * 64], torch.zeros_like(z[..., 3 * 64 : 4 * 64]), z[..., 4 * 64 :]], dim=-1)

    hooks = [(plain.o(23), "in", silence), plain.adding("blocks.11.mlp", half)]
    with torch.no_grad():
        wanted = plain.logits(ids, hooks)[-1]
    found = perturb(smollm2, CLEAN, edits)
    assert found.token.token == " Mary"
    assert found.logit_after == pytest.approx(float(wanted[found.token.token_id]), abs=1e-3)
    assert [one.token_id for one in found.after] == wanted.argsort(descending=True)[:10].tolist()
    nothing = perturb(smollm2, CLEAN, [Edit("blocks.23.attn.head_3", "amplify", factor=1.0)])
    assert nothing.kl < 1e-9
    assert abs(nothing.logit_diff) < 1e-4
