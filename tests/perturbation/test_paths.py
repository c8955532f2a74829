"""Path patching and circuits against plain hooks, and against the derivative that an edge's attribution claims to be."""

import numpy as np
import pytest
import torch

from nmri3d import verify_edge
from nmri3d.errors import InputError
from nmri3d.perturbation.baselines import Baseline, baseline
from nmri3d.perturbation.metric import logit_difference
from nmri3d.perturbation.paths import circuit_metric, faithfulness
from nmri3d.results import Tracts
from nmri3d.scans.edges import GradientPass, edge_attribution
from tests.models.tiny import FAMILIES
from tests.perturbation.cases import CLEAN, CORRUPT, OTHER, both, families, hooks_left
from tests.perturbation.doubles import doubles

EVERY = 10**6


def measured(backend, effect, corrupt, tokens=(None, None)):
    """Recording, baseline, metric and all edges of the clean prompt."""
    stimulus = backend.stimulus(CLEAN)
    chosen = baseline(backend, stimulus, effect, corrupt)
    recording = backend.record(stimulus)
    metric = logit_difference(backend, recording.at(-1), *tokens, -1)
    one = GradientPass(*backend.gradients(stimulus, metric.of_steps))
    return recording, chosen, metric, edge_attribution(backend, recording, [one], chosen, keep=EVERY)


def delta_of(backend, plain, effect, corrupt, source, template):
    """b_u - w_u from plain writes."""
    ids = backend.stimulus(CLEAN).ids
    write = plain.writes(ids)[source]
    if effect == "patch":
        return plain.writes(backend.stimulus(corrupt).ids)[source] - write
    if effect == "zero":
        return -write
    delta = torch.tensor(template.mean[backend.components.row(source)]).to(write) - write
    delta[0] = 0
    return delta


@families
@pytest.mark.parametrize(("effect", "corrupt"), [("patch", OTHER), ("zero", None), ("mean", None)])
def test_an_edge_is_what_hand_written_path_patching_says(family, effect, corrupt, template):
    backend, plain = both(family)
    ids, tokens = backend.stimulus(CLEAN).ids, (40, 77)
    edges = [
        ("embed", "blocks.0.attn.head_1", "q"),
        ("embed", "blocks.2.attn.head_3", "v"),
        ("blocks.0.attn.head_2", "blocks.1.attn.head_0", "k"),
        ("blocks.0.mlp", "blocks.1.attn.head_3", "v"),
        ("blocks.1.attn.head_1", "blocks.2.attn.head_2", "q"),
        ("blocks.0.attn.head_0", "blocks.2.mlp", "mlp"),
        ("blocks.1.mlp", "blocks.2.mlp", "mlp"),
        ("blocks.1.attn.head_3", "unembed", "logits"),
        ("blocks.2.mlp", "unembed", "logits"),
    ]
    if not backend.info.parallel_blocks:
        edges.append(("blocks.1.attn.head_1", "blocks.1.mlp", "mlp"))
    with torch.no_grad():
        clean = plain.metric(ids, tokens)
        scale = float(plain.logits(ids)[-1].abs().max())
        sizes = []
        for source, target, slot in edges:
            delta = delta_of(backend, plain, effect, corrupt, source, template(family))
            wanted = float(clean - plain.patched_edge(ids, tokens, target, slot, delta))
            found = verify_edge(
                backend, CLEAN, source, target, slot, effect=effect, corrupt=corrupt, target_token=40, foil=77
            )
            assert found == pytest.approx(wanted, abs=1e-4 * scale), (source, target, slot)
            sizes.append(abs(wanted))
    assert np.median(sizes) > 1e-3 * scale


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edges_attribution_is_the_derivative_of_path_patching(family, monkeypatch):
    """Float64: patch a hand-written path by a fraction e of the difference, both ways; the slope is the score."""
    backend, plain = doubles(family, monkeypatch)
    _, _, metric, tracts = measured(backend, "patch", OTHER)
    ids, tokens = backend.stimulus(CLEAN).ids, (metric.target, metric.foil)
    clean, other = plain.writes(ids), plain.writes(backend.stimulus(OTHER).ids)
    chosen = np.random.default_rng(0).choice(len(tracts), 40, replace=False)
    step = 1e-5
    for edge in chosen.tolist():
        source, target = (backend.components.ids[rows[edge]] for rows in (tracts.source, tracts.target))
        slot, delta = str(tracts.slot[edge]), other[source] - clean[source]
        with torch.no_grad():
            up, down = (plain.patched_edge(ids, tokens, target, slot, e * delta) for e in (step, -step))
        assert tracts.score[edge] == pytest.approx(float(down - up) / (2 * step), rel=1e-5, abs=1e-6), (source, target)


@families
@pytest.mark.parametrize(("effect", "corrupt"), [("patch", OTHER), ("zero", None), ("mean", None)])
def test_all_edges_are_the_model_and_none_are_the_baseline(family, effect, corrupt):
    backend, plain = both(family)
    recording, chosen, metric, tracts = measured(backend, effect, corrupt)
    kept, without = faithfulness(backend, recording, chosen, metric, tracts)
    tokens = (metric.target, metric.foil)
    with torch.no_grad():
        clean = float(plain.metric(backend.stimulus(CLEAN).ids, tokens))
        gap = clean - without
        assert kept == pytest.approx(1, abs=max(1e-4, 2e-4 / abs(gap)))
        nothing = circuit_metric(backend, recording, chosen, metric, tracts.pruned(0.0))
        assert nothing == without
        if effect == "patch":
            assert without == pytest.approx(float(plain.metric(backend.stimulus(OTHER).ids, tokens)), abs=1e-4)
    assert faithfulness(backend, recording, chosen, metric, tracts.pruned(0.0))[0] == 0


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "gemma2"])
def test_a_circuit_without_one_edge_is_that_edge_patched(family):
    """What is left when one edge is cut out of the whole is path patching of that edge, by hand-written hooks.

    Not for Gemma-2, whose post-norm keeps the clean scale in a circuit.
    """
    backend, plain = both(family)
    recording, chosen, metric, tracts = measured(backend, "patch", OTHER, (40, 77))
    ids = backend.stimulus(CLEAN).ids
    clean, other = plain.writes(ids), plain.writes(backend.stimulus(OTHER).ids)
    for slot in ("q", "k", "v", "mlp", "logits"):
        edge = int(np.flatnonzero(tracts.slot == slot)[0])
        keep = np.arange(len(tracts)) != edge
        circuit = Tracts(
            tracts.source[keep], tracts.target[keep], tracts.slot[keep], tracts.score[keep], tracts.total, tracts.count
        )
        source, target = (backend.components.ids[rows[edge]] for rows in (tracts.source, tracts.target))
        with torch.no_grad():
            wanted = float(plain.patched_edge(ids, (40, 77), target, slot, other[source] - clean[source]))
        found = circuit_metric(backend, recording, chosen, metric, circuit)
        assert found == pytest.approx(wanted, abs=5e-4), slot
        assert abs(wanted - metric.of(recording)) > 1e-3, "the strongest edge of a slot moves the metric"


@families
def test_there_is_an_edge_from_every_writer_to_every_later_reader_and_to_no_other(family):
    backend, _ = both(family)
    tracts = measured(backend, "patch", OTHER)[-1]
    found = set(zip(tracts.source.tolist(), tracts.target.tolist(), tracts.slot.tolist(), strict=True))
    assert len(found) == len(tracts) == tracts.count
    table, ids = backend.components, backend.components.ids
    wanted = set()
    for source, kind in enumerate(table.kind):
        if kind in ("unembed", "attn_bias"):
            continue
        for target, reader in enumerate(table.kind):
            after = table.layer[target] > table.layer[source]
            same = table.layer[target] == table.layer[source] and (kind, reader) == ("head", "mlp")
            if reader == "head" and after:
                wanted |= {(source, target, slot) for slot in "qkv"}
            elif reader == "mlp" and (after or (same and not backend.info.parallel_blocks)):
                wanted.add((source, target, "mlp"))
            elif reader == "unembed":
                wanted.add((source, target, "logits"))
    assert found == wanted, [(ids[s], ids[t], slot) for s, t, slot in found ^ wanted][:5]


@pytest.mark.parametrize(
    ("edge", "reason"),
    [
        (("blocks.1.mlp", "blocks.1.attn.head_0", "q"), "is read before"),
        (("blocks.2.attn.head_0", "blocks.1.mlp", "mlp"), "is read before"),
        (("blocks.1.mlp", "blocks.1.mlp", "mlp"), "is read before"),
        (("embed", "blocks.1.mlp", "q"), "there is no edge"),
        (("embed", "blocks.1.attn.head_0", "mlp"), "there is no edge"),
        (("embed", "blocks.1.attn.head_0", "logits"), "there is no edge"),
        (("embed", "unembed", "q"), "there is no edge"),
        (("embed", "unembed", "z"), "a slot is one of"),
        (("unembed", "blocks.1.mlp", "mlp"), "there is no edge"),
        (("blocks.0.attn.b_O", "blocks.1.mlp", "mlp"), "there is no edge"),
        (("embed", "blocks.9.mlp", "mlp"), "no component"),
        (("nothing", "blocks.1.mlp", "mlp"), "no component 'nothing'"),
    ],
)
def test_an_edge_that_does_not_exist_is_refused(edge, reason):
    backend, _ = both("gpt2")
    with pytest.raises(InputError, match=reason):
        verify_edge(backend, CLEAN, *edge, corrupt=CORRUPT)


def test_a_parallel_block_has_no_edge_from_a_head_to_its_own_mlp():
    backend, _ = both("gpt_neox")
    with pytest.raises(InputError, match="is read before"):
        verify_edge(backend, CLEAN, "blocks.1.attn.head_0", "blocks.1.mlp", "mlp", corrupt=CORRUPT)
    sequential, _ = both("gpt_neox_sequential")
    assert verify_edge(sequential, CLEAN, "blocks.1.attn.head_0", "blocks.1.mlp", "mlp", corrupt=CORRUPT)


@families
def test_patching_paths_leaves_no_trace(family):
    backend, _ = both(family)
    fingerprint, hooks = backend.fingerprint(), hooks_left(backend.hf_model)
    recording, chosen, metric, tracts = measured(backend, "patch", OTHER)
    faithfulness(backend, recording, chosen, metric, tracts.pruned(0.5))
    broken = Baseline("patch", recording=None, mean=torch.zeros(2, 2))
    with pytest.raises((IndexError, RuntimeError)):
        faithfulness(backend, recording, broken, metric, tracts)
    assert backend.fingerprint() == fingerprint
    assert hooks_left(backend.hf_model) == hooks
