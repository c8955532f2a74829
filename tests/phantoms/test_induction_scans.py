"""Scans and perturbations of a network of attention alone, against the same by hand (`induction_doubles`)."""

import numpy as np
import pytest
import torch

import nmri3d
from nmri3d.errors import InputError
from nmri3d.models.gradients import stream_gradients_by_block
from nmri3d.models.load_checks import require_known_blocks
from nmri3d.scans.head_kinds import head_kinds
from nmri3d.template.build import build_template
from tests.phantoms.induction_doubles import CLEAN, CORRUPT, FOIL, TARGET, Double, noisy_backend, site_of


@pytest.fixture(scope="module")
def backend():
    return noisy_backend()


@pytest.fixture(scope="module")
def double(backend):
    return Double(backend.network)


@pytest.fixture(scope="module")
def clean(backend):
    return torch.from_numpy(backend.stimulus(CLEAN).ids)


@pytest.fixture(scope="module")
def corrupt(backend):
    return torch.from_numpy(backend.stimulus(CORRUPT).ids)


@pytest.fixture(autouse=True, scope="module")
def own_template(backend, tmp_path_factory):
    """A template of a few texts, in a folder of the test's own."""
    from nmri3d.template import access

    patch = pytest.MonkeyPatch()
    patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
    access._remember(build_template(backend, texts=backend.reference()[:30]))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def tokens(backend):
    return backend.token_id(TARGET), backend.token_id(FOIL)


def test_it_says_what_it_is(backend):
    assert backend.info.architecture == "Induction"


def test_the_table_has_no_mlps_and_adds_up(backend):
    table, network = backend.components, backend.network
    assert table.ids[0] == "embed"
    assert table.ids[1:9] == tuple(f"blocks.0.attn.head_{head}" for head in range(8))
    assert table.ids[-1] == "unembed"
    assert len(table) == 18
    assert len(backend.neurons) == 0
    assert backend.kinds == ("embed", "head", "unembed")
    assert int(table.n_params.sum()) == sum(p.numel() for p in network.parameters()) == backend.info.n_params
    parts = [sum(w.numel() for w in network.weights(part).values()) for part in network.parts]
    assert table.n_params.tolist() == parts
    assert backend.info.completeness < 1e-5
    assert backend.info.d_mlp == 0
    assert not any("mlp" in site for site in backend.site_names)
    assert backend.fingerprint() == backend.info.fingerprint


def test_parts_that_are_loaded_do_what_parts_of_their_names_do(backend):
    require_known_blocks(backend._modules, backend.record(backend.stimulus(CLEAN)), backend._projections)


@pytest.mark.parametrize("aggregation", ["l2_norm", "max", "mean"])
def test_fmri_is_what_each_part_writes(backend, double, clean, aggregation):
    reduce = {
        "l2_norm": lambda w: w.norm(dim=-1), "max": lambda w: w.abs().amax(-1), "mean": lambda w: w.abs().mean(-1)
    }  # fmt: skip
    found = nmri3d.scan(backend, "fMRI", CLEAN, aggregation=aggregation)
    by_hand = double.run(clean)
    for name in backend.components.ids[:-1]:
        wanted = reduce[aggregation](by_hand[name]).numpy()
        assert found.values[:, backend.components.row(name)] == pytest.approx(wanted, rel=1e-4), name
    assert found.tokens == ("|start|", *(f" {word}" for word in CLEAN.split()))


def test_t1_and_t2_see_the_undivided_weights(backend):
    t1, t2 = nmri3d.scan(backend, "T1"), nmri3d.scan(backend, "T2", statistic="std")
    assert t1.values[0].tolist() == backend.components.n_params.tolist()
    attn = backend.network.blocks[1].attn
    rows = slice(3 * 12, 4 * 12)
    own = [attn.q_proj.weight[rows], attn.k_proj.weight[rows], attn.v_proj.weight[rows], attn.o_proj.weight[:, rows]]
    wanted = float(torch.cat([w.detach().double().flatten() for w in own]).std(unbiased=False))
    assert t2.values[0, backend.components.row("blocks.1.attn.head_3")] == pytest.approx(wanted, rel=1e-4)
    ov = (attn.v_proj.weight[rows].T @ attn.o_proj.weight[:, rows].T).detach()
    largest = float(torch.linalg.svdvals(ov)[0])
    assert float(backend.circuit_spectra(1)[0][3, 0]) == pytest.approx(largest, rel=1e-4)


def test_dla_adds_up_to_the_logit_difference(backend, double, clean, tokens):
    found = nmri3d.scan(backend, "DTI", CLEAN, method="dla", edges="none", target=TARGET, foil=FOIL, effect="zero")
    wanted = float(double.metric(clean, *tokens))
    assert found.values.sum(dtype=np.float64) == pytest.approx(wanted, abs=1e-4 * max(1, abs(wanted)))
    assert abs(wanted) > 0.05


@pytest.mark.parametrize("other", [None, CORRUPT])
def test_edges_of_a_writer_add_up_to_its_score(backend, double, clean, corrupt, tokens, other):
    found = nmri3d.scan(
        backend, "DTI", CLEAN, corrupt=other, method="atp", target=TARGET, foil=FOIL, effect=None if other else "zero",
    )  # fmt: skip
    writes = double.run(clean)
    base = double.run(corrupt) if other else {name: torch.zeros(()) for name in writes}
    zeros = {name: torch.zeros_like(writes[name]).requires_grad_() for name in backend.components.ids[:-1]}
    gradients = torch.autograd.grad(double.metric(clean, *tokens, zeros), list(zeros.values()))
    tracts = found.tracts
    assert set(tracts.slot) == {"q", "k", "v", "logits"}
    # three inputs of each head, which embed writes to and, in block 1, the heads of block 0; all write to the logits
    assert tracts.count == 8 * 3 * 1 + 8 * 3 * 9 + 17
    for name, gradient in zip(zeros, gradients, strict=True):
        row = backend.components.row(name)
        wanted = float(((writes[name] - base[name]) * gradient).sum())
        assert found.values[0, row] == pytest.approx(wanted, abs=1e-3), name
        assert tracts.score[tracts.source == row].sum() == pytest.approx(wanted, abs=1e-3), name
    assert np.abs(found.values[0, :-1]).max() > 0.1


def test_gradients_block_by_block_are_those_of_the_graph(backend, tokens):
    directions = torch.zeros(backend.info.d_vocab)
    directions[tokens[0]], directions[tokens[1]] = 1, -1

    def metric(final):
        return backend._readout.lens(final[-1]) @ directions

    recording, gradients = backend.gradients(backend.stimulus(CLEAN), metric)
    by_block = stream_gradients_by_block(backend._modules, recording, metric)
    assert [point is None for point in gradients] == [False] * 5
    for one, other in zip(gradients, by_block, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.equal(recording.at(1), recording.at(2))
    assert not torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("effect", ["zero", "patch"])
def test_a_sweep_equals_passes_with_plain_hooks(backend, clean, corrupt, tokens, effect):
    """The module's own hook points, one whole pass a component."""
    network = backend.network
    _, other = network.run_with_cache(corrupt[None])

    def metric(hooks):
        with torch.no_grad():
            logits = network.run_with_hooks(clean[None], fwd_hooks=hooks)[0, -1]
        return float(logits[tokens[0]] - logits[tokens[1]])

    plain, wanted = metric([]), {}
    for name in backend.components.ids[:-1]:
        site, head = site_of(name)

        def replace(value, hook, site=site, head=head):
            source = other[site] if effect == "patch" else torch.zeros_like(value)
            value = value.clone()
            if head is None:
                return source
            value[:, :, head] = source[:, :, head]
            return value

        # positions belong to embed, and are the same in both texts
        extra = [("hook_pos_embed", lambda value, hook: 0 * value)] if name == "embed" and effect == "zero" else []
        wanted[name] = metric([(site, replace), *extra]) - plain
    found = nmri3d.ablate_all(
        backend, CLEAN, target=TARGET, foil=FOIL, effect=effect, corrupt=CORRUPT if effect == "patch" else None
    )
    for name, value in wanted.items():
        assert found.values[backend.components.row(name)] == pytest.approx(value, abs=1e-3), name
    assert found.clean_metric == pytest.approx(plain, abs=1e-4)
    assert max(map(abs, wanted.values())) > 0.3


def test_the_exact_method_is_the_negative_of_the_sweep(backend):
    options = {"target": TARGET, "foil": FOIL, "corrupt": CORRUPT}
    found = nmri3d.scan(backend, "DTI", CLEAN, method="exact", edges="none", **options)
    swept = nmri3d.ablate_all(backend, CLEAN, effect="patch", **options)
    assert found.values[0, :-1] == pytest.approx(-swept.values[:-1], abs=1e-5)


def test_an_edge_is_verified_and_a_circuit_of_all_edges_is_the_network(backend):
    options = {"target": TARGET, "foil": FOIL}
    everything = nmri3d.scan(backend, "DTI", CLEAN, corrupt=CORRUPT, share=1.0, **options)
    assert float(everything.details["faithfulness"]) == pytest.approx(1, abs=1e-3)
    with pytest.raises(InputError, match=r"no component 'blocks\.1\.mlp'"):
        nmri3d.verify_edge(backend, CLEAN, "embed", "blocks.1.mlp", "mlp", corrupt=CORRUPT)


def test_a_verified_edge_is_a_key_input_that_reads_another_residual(backend, double, clean, corrupt, tokens):
    """By hand: only the keys of head 1.5 see the corrupted embedding, in float64."""
    edge = nmri3d.verify_edge(
        backend, CLEAN, "embed", "blocks.1.attn.head_5", "k", corrupt=CORRUPT, target_token=TARGET,
        foil=FOIL,
    )  # fmt: skip
    run, other = double.run(clean), double.run(corrupt)
    reads = run["embed"] + sum(run[f"blocks.0.attn.head_{head}"] for head in range(8))
    keyed = reads - run["embed"] + other["embed"]
    rows, own = slice(60, 72), "blocks.1.attn."
    normed, normed_keys = double._norm(reads, "blocks.1.ln1"), double._norm(keyed, "blocks.1.ln1")
    q, v = (normed @ double.p[f"{own}{slot}_proj.weight"][rows].T for slot in "qv")
    k = normed_keys @ double.p[f"{own}k_proj.weight"][rows].T
    mask = torch.ones(len(clean), len(clean), dtype=torch.bool).tril()
    pattern = (q @ k.T / 12**0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    moved = pattern @ v @ double.p[f"{own}o_proj.weight"][:, rows].T - run["blocks.1.attn.head_5"]
    changed = double.metric(clean, *tokens, {"blocks.1.attn.head_5": moved})
    assert edge == pytest.approx(float(double.metric(clean, *tokens) - changed), abs=1e-3)
    assert abs(edge) > 1e-3


def test_a_trace_restores_attention_and_the_residual_and_has_no_mlps(backend, clean, corrupt, tokens):
    found = nmri3d.trace(backend, CLEAN, corrupt=CORRUPT, target=TARGET, foil=FOIL)
    assert found.sites == ("resid", "attn")
    network = backend.network
    _, kept = network.run_with_cache(clean[None])

    def metric(ids, hooks=()):
        with torch.no_grad():
            logits = network.run_with_hooks(ids[None], fwd_hooks=list(hooks))[0, -1]
        return float(logits[tokens[0]] - logits[tokens[1]])

    low, high = metric(corrupt), metric(clean)
    for site, name in ((0, "blocks.1.hook_resid_pre"), (1, "blocks.1.hook_attn_out")):
        for step in (4, 7, 9):

            def restore(value, hook, name=name, step=step):
                value = value.clone()
                value[:, step] = kept[name][:, step]
                return value

            wanted = (metric(corrupt, [(name, restore)]) - low) / (high - low)
            assert found.values[site, 1, step] == pytest.approx(wanted, abs=1e-3), (name, step)
    with pytest.raises(InputError, match="attention alone"):
        nmri3d.trace(backend, CLEAN, corrupt=CORRUPT, sites=("mlp",))


def test_flair_has_one_point_a_block(backend, double, clean):
    found = nmri3d.scan(backend, "FLAIR", CLEAN)
    details = found.details
    assert details["row_site"].tolist() == ["attn", "attn"]
    assert details["row_layer"].tolist() == [0, 1]
    by_hand = double.run(clean)
    x1 = by_hand["embed"] + sum(by_hand[f"blocks.0.attn.head_{head}"] for head in range(8))
    lens = (double._norm(x1, "ln_final") @ double.p["unembed.weight"].T).log_softmax(-1)
    final = by_hand["logits"].log_softmax(-1)
    kl = (final.exp() * (final - lens)).sum(-1)
    assert details["kl"][0] == pytest.approx(kl.numpy(), rel=1e-3, abs=1e-4)
    assert np.isnan(details["kl"][1]).all()
    heads = backend.components.rows("head", 0)
    assert found.values[:, heads] == pytest.approx(np.repeat(details["score"][0][:, None], 8, axis=1), nan_ok=True)
    assert np.isfinite(details["summary"][1:]).all()  # the start token is the same in all texts


@pytest.mark.parametrize(
    "edit",
    [
        nmri3d.Edit("blocks.0.attn.head_4", "zero"),
        nmri3d.Edit("blocks.1.attn.head_0", "amplify", factor=3.0),
        nmri3d.Edit("blocks.0.attn.head_1", "invert", positions=[3]),
        nmri3d.Edit("blocks.1.attn.head_7", "ablate"),
        nmri3d.Edit("blocks.0.attn.head_1", "noise", sigma=2.0),
        nmri3d.Edit("blocks.1.attn.head_1", "patch", source=CORRUPT),
        nmri3d.Edit("embed", "zero", positions=[5]),
    ],
    ids=lambda edit: edit.kind,
)
def test_every_edit_changes_the_answer_and_no_weight(backend, edit):
    before = backend.fingerprint()
    found = nmri3d.perturb(backend, CLEAN, [edit])
    assert found.kl > 1e-6
    assert backend.fingerprint() == before == backend.info.fingerprint


def test_kinds_of_heads_are_mean_attention_weights(backend):
    found = head_kinds(backend, length=20, seed=4)
    assert (found.previous > 0).all()
    assert (found.previous < 0.5).all()
    whole = head_kinds(backend)
    assert whole.length == 50


def test_there_are_no_neurons(backend):
    for mode in ("T1", "fMRI"):
        with pytest.raises(InputError, match="no MLP neurons"):
            nmri3d.scan_neurons(backend, mode, CLEAN if mode == "fMRI" else None)
    with pytest.raises(InputError):
        nmri3d.scan(backend, "fMRI", CLEAN, level="neuron")
    with pytest.raises(InputError, match=r"no component 'blocks\.0\.mlp\.neuron_3'"):
        nmri3d.perturb(backend, CLEAN, [nmri3d.Edit("blocks.0.mlp.neuron_3", "zero")])
    with pytest.raises(InputError, match="no MLP"):
        backend.neuron_features(0)


def test_layouts_have_their_features(backend):
    composition = backend.composition()
    first, second = backend.components.rows("head", 0), backend.components.rows("head", 1)
    assert np.isfinite(composition.score[:3][:, first[:, None], second]).all()
    assert np.isnan(composition.score[:, second[:, None], first]).all()
    assert np.isfinite(backend.layout_features()).all()
    assert np.isfinite(backend.circuit_features()).all()
