"""Every kind of edit against plain hooks on the Hugging Face modules, what is refused, and what an edit leaves behind."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nmri3d
from nmri3d import Edit, perturb
from nmri3d.errors import Cancelled, InputError
from nmri3d.models.backend import SiteEdit
from nmri3d.perturbation.compare import clean_run
from nmri3d.perturbation.edits import EDIT_KINDS, site_edits
from nmri3d.results import Comparison
from tests.models.tiny import BOS_FAMILIES, FAMILIES, LAYERS
from tests.perturbation.cases import CLEAN, CORRUPT, OTHER, both, families, hooks_left

HEAD, MLP, NEURON = "blocks.1.attn.head_2", "blocks.0.mlp", "blocks.1.mlp.neuron_17"


def after(backend, edits, prompt=CLEAN):
    """Last logits with edits, and the comparison."""
    comparison = perturb(backend, prompt, edits, k=backend.info.d_vocab)
    logits = np.empty(backend.info.d_vocab)
    for one in comparison.after:
        logits[one.token_id] = one.logit
    return logits, comparison


def expected(plain, ids, hooks):
    with torch.no_grad():
        return plain.logits(ids, hooks)[-1].numpy()


def changed(value, positions, function):
    """[T, ...] with a function applied at some positions."""
    result = value.clone()
    for position in positions:
        result[position] = function(value[position], position)
    return result


def check(found, wanted, unedited, *, differs=True):
    """Equal to the plain result, and not merely because nothing happened."""
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, atol=1e-4 * scale)
    if differs:
        assert np.abs(wanted - unedited).max() > 2e-4 * scale, "the edit changes nothing, so this proves nothing"


def changes(backend, plain, template, name, stimulus):
    """Kind -> (edit options, function of the value at a position)."""
    row = backend.components.row(name)
    source = plain.writes(backend.stimulus(OTHER).ids)[name]
    values = np.linspace(-1, 1, backend.info.d_model)
    return {
        "zero": ({}, lambda v, p: torch.zeros_like(v)),
        "amplify": ({"factor": -2.5}, lambda v, p: -2.5 * v),
        "invert": ({}, lambda v, p: -v),
        "ablate": (
            {"positions": [0, 3, -1]},
            lambda v, p: torch.tensor(template.mean_first[row] if p == 0 else template.mean[row]),
        ),
        "inject": ({"values": values.tolist()}, lambda v, p: torch.from_numpy(values).float()),
        "patch": ({"source": OTHER}, lambda v, p: source[p]),
    }


@families
@pytest.mark.parametrize("name", [HEAD, MLP, "embed", "blocks.2.mlp", "blocks.2.attn.head_0"])
def test_edits_of_writes_equal_plain_hooks(family, name, template):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    write = plain.writes(stimulus.ids)[name]
    unedited = expected(plain, stimulus.ids, [])
    for kind, (options, function) in changes(backend, plain, template(family), name, stimulus).items():
        for positions in ([4, 5, -1], None):  # the token that OTHER changes is one of them
            positions = options.get("positions", positions)
            chosen = range(len(stimulus)) if positions is None else [p % len(stimulus) for p in positions]
            delta = changed(write, chosen, function) - write
            found, comparison = after(backend, Edit(name, kind, **{**options, "positions": positions}))
            check(found, expected(plain, stimulus.ids, [plain.adding(name, delta)]), unedited)
            own = comparison.values_after[:, backend.components.row(name)]
            np.testing.assert_allclose(own, (write + delta).norm(dim=-1), rtol=1e-3, atol=1e-5, err_msg=kind)


@families
def test_mean_ablation_leaves_the_first_position_alone_unless_it_is_asked_for(family, template):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    write = plain.writes(stimulus.ids)[MLP]
    mean = torch.tensor(template(family).mean[backend.components.row(MLP)])
    delta = mean - write
    delta[0] = 0
    found, _ = after(backend, Edit(MLP, "ablate"))
    check(found, expected(plain, stimulus.ids, [plain.adding(MLP, delta)]), expected(plain, stimulus.ids, []))


@families
def test_edits_of_neurons_equal_plain_hooks(family, template):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    last = [m for m in plain.mlp(1).modules() if isinstance(m, torch.nn.Linear) or type(m).__name__ == "Conv1D"][-1]
    if family in ("llama", "mistral", "qwen2", "qwen3", "gemma2"):
        last = plain.mlp(1).down_proj
    seen = {}
    other = backend.stimulus(OTHER)
    expected(plain, other.ids, [(last, "in", lambda x: seen.update(x=x[0, :, 17].clone()))])
    mean = float(template(family).neuron_mean[backend.neurons.row(NEURON)])
    unedited = expected(plain, stimulus.ids, [])
    kinds = {
        "zero": ({}, lambda v: 0 * v),
        "amplify": ({"factor": 30.0}, lambda v: 30.0 * v),
        "invert": ({}, lambda v: -v),
        "ablate": ({"positions": list(range(len(stimulus)))}, lambda v: 0 * v + mean),
        "inject": ({"values": 40.0}, lambda v: 0 * v + 40.0),
        "patch": ({"source": OTHER}, lambda v: seen["x"]),
    }
    for kind, (options, function) in kinds.items():

        def change(x, function=function):
            result = x.clone()
            result[0, :, 17] = function(x[0, :, 17])
            return result

        found, _ = after(backend, Edit(NEURON, kind, **options))
        wanted = expected(plain, stimulus.ids, [(last, "in", change)])
        check(found, wanted, unedited, differs=kind in ("amplify", "inject"))


@families
@pytest.mark.parametrize("site", ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "hook_resid_final"])
def test_edits_of_the_residual_equal_plain_hooks(family, site, template):
    backend, plain = both(family)
    if plain.parallel and site.endswith("mid"):
        with pytest.raises(InputError, match=r"has no site 'blocks\.1\.hook_resid_mid'"):
            perturb(backend, CLEAN, Edit(site, "zero"))
        return
    stimulus = backend.stimulus(CLEAN)
    seen, source = plain.seen(stimulus.ids), plain.seen(backend.stimulus(OTHER).ids)
    key = {"blocks.0.hook_resid_pre": ("resid", 0), "blocks.1.hook_resid_mid": ("mid", 1)}.get(site, ("resid", LAYERS))
    mean = template(family).mean
    below = [
        row
        for row, name in enumerate(backend.components.ids)
        if name == "embed"
        or (name != "unembed" and site == "hook_resid_final")
        or (site.endswith("mid") and name.startswith(("blocks.0", "blocks.1.attn")))
    ]
    options = {
        "zero": ({}, lambda v: 0 * v),
        "amplify": ({"factor": 3.0}, lambda v: 3.0 * v),
        "invert": ({}, torch.neg),
        "ablate": ({"positions": [-1]}, lambda v: torch.from_numpy(mean[below].sum(0)).expand_as(v)),
        "inject": ({"values": np.linspace(-1, 1, 32)}, lambda v: torch.linspace(-1, 1, 32).expand_as(v)),
        "patch": ({"source": OTHER}, lambda v: source[key]),
    }
    for kind, (extra, function) in options.items():
        positions = extra.get("positions")
        delta = function(seen[key]) - seen[key]
        if positions is not None:
            delta[:-1] = 0
        module, side = {
            "resid": lambda: (plain.final_norm if site == "hook_resid_final" else plain.blocks[0], "in"),
            "mid": lambda: (plain.attention_out(1), "out"),
        }[key[0]]()
        wanted = expected(plain, stimulus.ids, [(module, side, lambda x, delta=delta: x + delta[None])])
        found, _ = after(backend, Edit(site, kind, **extra))
        # scaling the last residual is undone by the final norm
        check(found, wanted, expected(plain, stimulus.ids, []), differs=(kind, site) != ("amplify", "hook_resid_final"))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_editing_the_residual_that_enters_does_not_change_what_embed_wrote(family):
    """The embedding's write and the residual that enters block 0 are the same tensor, and two different sites."""
    backend, _ = both(family)
    found = perturb(backend, CLEAN, Edit("blocks.0.hook_resid_pre", "zero"))
    embed = backend.components.row("embed")
    np.testing.assert_array_equal(found.values_after[:, embed], found.values_before[:, embed])
    for order in (1, -1):
        edits = [Edit("embed", "amplify", factor=3.0), Edit("blocks.0.hook_resid_pre", "zero")][::order]
        both_edited = perturb(backend, CLEAN, edits)
        np.testing.assert_allclose(both_edited.values_after[:, embed], 3 * found.values_before[:, embed], rtol=1e-5)
        assert both_edited.logit_after == pytest.approx(found.logit_after, abs=1e-5)


@families
def test_noise_has_the_templates_spread_and_depends_on_its_seed_alone(family, template):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    write = plain.writes(stimulus.ids)[MLP]
    row = backend.components.row(MLP)

    def noise(**options):
        (edit,) = site_edits(backend, stimulus, [Edit(MLP, "noise", **options)])
        return (edit.change(write.clone()) - write).numpy()

    spread = template(family).std[row]
    draws = np.concatenate([noise(seed=seed, sigma=0.5) for seed in range(200)])
    standard = draws / (0.5 * spread)
    assert abs(standard.mean()) < 5 / len(standard.ravel()) ** 0.5
    assert abs(standard.std() - 1) < 5 / len(standard.ravel()) ** 0.5
    assert np.abs(np.corrcoef(standard[:-1].ravel(), standard[1:].ravel())[0, 1]) < 5 / len(standard.ravel()) ** 0.5
    np.testing.assert_array_equal(noise(seed=3), noise(seed=3))
    assert np.abs(noise(seed=3) - noise(seed=4)).max() > 0
    np.testing.assert_allclose(noise(seed=3, sigma=2.0), 2 * noise(seed=3), rtol=1e-3, atol=1e-5)
    some = noise(seed=3, positions=[4, 1])
    np.testing.assert_allclose(some[[1, 4]], noise(seed=3)[[1, 4]], rtol=1e-6)  # a position's draw is its own
    assert not some[[0, 2, 3]].any()
    # and it arrives in the pass
    found, _ = after(backend, Edit(MLP, "noise", seed=3))
    wanted = expected(plain, stimulus.ids, [plain.adding(MLP, torch.from_numpy(noise(seed=3)))])
    check(found, wanted, expected(plain, stimulus.ids, []))


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_noise_on_the_residual_and_on_a_neuron_has_the_templates_spread(family, template):
    backend, _ = both(family)
    stimulus = backend.stimulus(CLEAN)
    tall = torch.zeros(len(stimulus), backend.info.d_model)
    spread = template(family).residual_std
    for site, point in (("blocks.2.hook_resid_pre", 4), ("hook_resid_final", 2 * LAYERS)):
        edits = [site_edits(backend, stimulus, [Edit(site, "noise", seed=s)])[0] for s in range(200)]
        drawn = np.concatenate([edit.change(tall).numpy() for edit in edits])
        np.testing.assert_allclose(drawn.std(axis=0), spread[point], rtol=0.15)
    edits = [site_edits(backend, stimulus, [Edit(NEURON, "noise", seed=s)])[0] for s in range(200)]
    drawn = np.concatenate([edit.change(torch.zeros(len(stimulus), 56)).numpy() for edit in edits])
    assert np.flatnonzero(drawn.any(axis=0)).tolist() == [17]
    assert drawn[:, 17].std() == pytest.approx(template(family).neuron_std[backend.neurons.row(NEURON)], rel=0.15)


@families
def test_edits_stack_in_the_order_given(family):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    write = plain.writes(stimulus.ids)[HEAD]
    unedited = expected(plain, stimulus.ids, [])
    values = np.linspace(-1, 1, 32)
    first, second = Edit(HEAD, "inject", values=values), Edit(HEAD, "amplify", factor=3.0, positions=[-1])
    injected = torch.from_numpy(values).float().expand_as(write)
    tripled_after = injected.clone()
    tripled_after[-1] *= 3
    for edits, target in (([first, second], tripled_after), ([second, first], injected)):
        found, _ = after(backend, edits)
        check(found, expected(plain, stimulus.ids, [plain.adding(HEAD, target - write)]), unedited)
    # of different components: each on what arrives there, one head of a layer beside another, a neuron below its MLP
    mlp = plain.mlp_out(1)
    beside = "blocks.1.attn.head_0"
    edits = [Edit("blocks.1.mlp", "invert"), Edit(HEAD, "zero"), Edit(beside, "amplify", factor=2.0)]
    found, comparison = after(backend, edits)
    hooks = [
        plain.adding(HEAD, -write),
        plain.adding(beside, plain.writes(stimulus.ids)[beside]),
        (mlp, "out", lambda out: -out),
    ]
    check(found, expected(plain, stimulus.ids, hooks), unedited)
    assert not comparison.values_after[:, backend.components.row(HEAD)].any()


@families
def test_nothing_ablated_changes_nothing(family):
    backend, _ = both(family)
    nothing = [
        [],
        [
            Edit(HEAD, "amplify", factor=1.0),
            Edit(NEURON, "amplify", factor=1),
            Edit("hook_resid_final", "amplify", factor=1),
        ],
        [Edit(MLP, "noise", sigma=0.0), Edit(HEAD, "invert"), Edit(HEAD, "invert")],
        [Edit("embed", "patch", source=CLEAN), Edit(MLP, "patch", source=CLEAN), Edit(HEAD, "patch", source=CLEAN)],
    ]
    for edits in nothing:
        found = perturb(backend, CLEAN, edits)
        assert found.logit_diff == pytest.approx(0, abs=1e-4)
        assert 0 <= found.kl < 1e-8
        assert [one.token_id for one in found.before] == [one.token_id for one in found.after]
        assert np.nanmax(np.abs(found.change)) < 1e-4
        assert found.ranked(3).size <= 3
    assert perturb(backend, CLEAN, []).ranked().size == 0


@families
def test_the_comparison_is_that_of_two_plain_passes(family):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    write = plain.writes(stimulus.ids)[MLP]
    before = torch.from_numpy(expected(plain, stimulus.ids, [])).double().log_softmax(-1)
    later = torch.from_numpy(expected(plain, stimulus.ids, [plain.adding(MLP, -write)])).double().log_softmax(-1)
    clean = clean_run(backend, CLEAN)
    for given_run in (None, clean):
        found = perturb(backend, CLEAN, Edit(MLP, "zero"), k=5, clean=given_run)
        assert found.kl == pytest.approx(float((before.exp() * (before - later)).sum()), rel=1e-3, abs=1e-6)
        assert [one.token_id for one in found.before] == before.argsort(descending=True)[:5].tolist()
        assert [one.token_id for one in found.after] == later.argsort(descending=True)[:5].tolist()
        assert found.token.token_id == int(before.argmax())
        assert found.probability_after == pytest.approx(float(later[found.token.token_id].exp()), rel=1e-3, abs=1e-6)
        assert found.after[0].probability == pytest.approx(float(later.max().exp()), rel=1e-3)
    with pytest.raises(InputError, match="belongs to another prompt"):
        perturb(backend, CORRUPT, Edit(MLP, "zero"), clean=clean)
    # every component's value after the edit, not just the edited one
    seen: dict = {}
    hooks = [plain.adding(MLP, -write), (plain.mlp_out(2), "out", lambda out: seen.update(x=out[0].clone()))]
    expected(plain, stimulus.ids, hooks)
    np.testing.assert_allclose(
        found.values_after[:, backend.components.row("blocks.2.mlp")], seen["x"].norm(dim=-1), rtol=1e-3
    )
    assert backend.components.row(MLP) in found.ranked()
    assert backend.components.row("embed") not in found.ranked()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "reason"),
    [
        ("blocks.9.mlp", "no component"),
        ("blocks.1.attn.head_4", "no component"),
        ("blocks.1.mlp.neuron_56", "no component"),
        ("blocks.9.hook_resid_pre", "has no site"),
        ("blocks.3.hook_resid_mid", "has no site"),
        ("blocks.1.attn.b_O", "no component"),
        ("unembed", "writes nothing"),
        ("blocks.1.attn", "is not a component id"),
        ("hook_embed", "no component 'hook_embed'"),
        ("", "is not a component id"),
        (7, "is not a component id"),
        (None, "is not a component id"),
    ],
)
@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_that_matches_nothing_is_refused_before_anything_runs(component, reason, kind, monkeypatch):
    backend, _ = both("llama")
    options = {"inject": {"values": np.zeros(32)}, "patch": {"source": OTHER}}.get(kind, {})
    monkeypatch.setattr(type(backend), "run", lambda *a, **k: pytest.fail("the model ran"))
    with pytest.raises(InputError, match=reason):
        perturb(backend, CLEAN, [Edit(HEAD, "zero"), Edit(component, kind, **options)])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"positions": [16]}, "position 16 is outside the prompt, which has 16"),
        ({"positions": [-17]}, "position -17 is outside the prompt"),
        ({"positions": []}, "an empty list"),
        ({"positions": [1.0]}, "a position is a whole number"),
        ({"positions": [True]}, "a position is a whole number"),
        ({"positions": [None]}, "a position is a whole number"),
        ({"kind": "inject", "values": np.zeros(31)}, "must be 32 numbers"),
        ({"kind": "inject", "values": 1.0}, "must be 32 numbers"),
        ({"kind": "inject", "values": np.zeros((2, 32))}, "must be 32 numbers"),
        ({"kind": "inject", "values": "abc"}, "are not numbers"),
        ({"kind": "inject", "values": np.full(32, np.nan)}, "hold NaN"),
        ({"kind": "patch", "source": CLEAN + " more"}, "equally many tokens"),
        ({"kind": "patch", "source": ""}, "prompt is empty"),
    ],
)
def test_an_edit_that_does_not_fit_the_prompt_is_refused_in_words(options, reason):
    backend, _ = both("llama")
    with pytest.raises(InputError, match=reason):
        perturb(backend, CLEAN, Edit(HEAD, **{"kind": "zero", **options}))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": "delete"}, "there is no edit 'delete'"),
        ({"kind": None}, "there is no edit None"),
        ({"kind": "amplify", "factor": float("inf")}, "factor is a finite number"),
        ({"kind": "amplify", "factor": "2"}, "factor is a finite number"),
        ({"kind": "amplify", "factor": True}, "factor is a finite number"),
        ({"kind": "noise", "sigma": -0.1}, "zero or more"),
        ({"kind": "noise", "sigma": float("nan")}, "sigma is a finite number"),
        ({"kind": "noise", "seed": 1.5}, "a seed is a whole number"),
        ({"kind": "noise", "seed": -1}, "a seed is a whole number, zero or more"),
        ({"kind": "inject"}, "takes values"),
        ({"kind": "zero", "values": [1.0]}, "no other, takes values"),
        ({"kind": "patch"}, "takes a source"),
        ({"kind": "zero", "source": "a"}, "no other, takes a source"),
        ({"kind": "zero", "positions": "12"}, "positions is a list"),
        ({"kind": "zero", "positions": 3}, "positions is a list"),
    ],
)
def test_an_edit_that_means_nothing_is_refused_when_it_is_made(options, reason):
    with pytest.raises(InputError, match=reason):
        Edit(HEAD, **options)


def test_perturb_refuses_what_is_no_edit_and_lists_that_are_too_long():
    backend, _ = both("llama")
    with pytest.raises(InputError, match=r"nmri3d\.Edit objects"):
        perturb(backend, CLEAN, [{"component": HEAD, "kind": "zero"}])
    for k in (0, -1, backend.info.d_vocab + 1, 1.5, True):
        with pytest.raises(InputError, match="k is a whole number"):
            perturb(backend, CLEAN, [], k=k)


# -- what is left behind -----------------------------------------------------------------------------------------------


@families
def test_exceptions_and_withdrawal_leave_no_trace(family):
    backend, _ = both(family)
    fingerprint, hooks = backend.fingerprint(), hooks_left(backend.hf_model)
    clean = perturb(backend, CLEAN, [])
    calls = []

    def withdraw(share, what):
        calls.append(share)
        if len(calls) == 3:
            raise Cancelled("withdrawn")

    with pytest.raises(Cancelled):
        perturb(backend, CLEAN, Edit(HEAD, "zero"), progress=withdraw)
    for site in backend.site_names:
        if site.endswith(("hook_pattern", "post_norm_scale")):
            continue
        broken = SiteEdit(site, lambda tensor: tensor @ torch.zeros(3, 3))
        with pytest.raises(RuntimeError):  # inside a hook
            backend.run(backend.stimulus(CLEAN), {}, edits=[broken])
    for kind in EDIT_KINDS:
        options = {"inject": {"values": np.ones(32)}, "patch": {"source": OTHER}}.get(kind, {})
        perturb(backend, CLEAN, Edit(MLP, kind, **options))
    assert backend.fingerprint() == fingerprint
    assert hooks_left(backend.hf_model) == hooks
    again = perturb(backend, CLEAN, [])
    np.testing.assert_array_equal(again.values_before, clean.values_before)
    assert again.before == clean.before


# -- records and files -------------------------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-1000, 1000)
positions = st.none() | st.lists(st.integers(-5, 5), min_size=1, max_size=4)


@st.composite
def edits(draw):
    kind = draw(st.sampled_from(EDIT_KINDS))
    options = {"positions": draw(positions), "factor": draw(numbers), "seed": draw(st.integers(0, 2**40))}
    options["sigma"] = abs(draw(numbers))
    if kind == "inject":
        options["values"] = draw(st.lists(numbers, min_size=1, max_size=5) | numbers)
    if kind == "patch":
        options["source"] = draw(st.text(max_size=20))
    return Edit(draw(st.text(max_size=20)), kind, **options)


@given(edits())
def test_a_record_is_plain_json_and_makes_the_same_edit(edit):
    record = json.loads(json.dumps(edit.as_record(), allow_nan=False))
    assert record == edit.as_record()
    again = Edit(**record)
    assert again.as_record() == record
    assert (again.component, again.kind, again.source) == (edit.component, edit.kind, edit.source)
    assert again.positions == edit.positions
    used = {"amplify": {"factor"}, "noise": {"sigma", "seed"}, "patch": {"source"}, "inject": {"values"}}
    assert record.keys() - {"component", "kind", "positions"} == used.get(edit.kind, set())


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "zero", "positions": np.array([1, 2])},
        {"kind": "zero", "positions": range(2)},
        {"kind": "zero", "positions": (p for p in (0, 1))},
        {"kind": "amplify", "factor": np.float32(2)},
        {"kind": "noise", "sigma": np.float64(1), "seed": np.int64(4)},
        {"kind": "inject", "values": torch.ones(32)},
        {"kind": "inject", "values": np.float32(3)},
    ],
)
def test_numbers_of_numpy_and_torch_are_recorded_as_plain_json(options):
    record = Edit(MLP, **options).as_record()
    assert json.loads(json.dumps(record)) == record


junk = (
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(["factor", "sigma", "seed", "positions", "values", "source", "kind"]), junk))
def test_junk_makes_an_edit_or_an_input_error_and_nothing_else(options):
    try:
        edit = Edit(HEAD, **{"kind": "zero", **options})
    except InputError as error:
        assert str(error)
    else:
        assert edit.kind in EDIT_KINDS
        assert np.isfinite(edit.factor)
        assert edit.sigma >= 0


def test_a_saved_comparison_opens_as_it_was():
    backend, _ = both("gemma2")
    done = [Edit(MLP, "noise", seed=2, positions=np.array([1, -1])), Edit(HEAD, "inject", values=np.ones(32))]
    found = perturb(backend, CLEAN, done, k=4)
    with tempfile.TemporaryDirectory() as folder:
        again = Comparison.open(found.save(Path(folder) / "comparison"))
        with pytest.raises(InputError, match="another result"):
            nmri3d.Sweep.open(Path(folder) / "comparison.npz")
    for name in ("before", "after", "token", "logit_after", "probability_after", "kl", "units", "tokens", "edits"):
        assert getattr(again, name) == getattr(found, name), name
    assert again.components == found.components
    assert again.provenance == found.provenance
    np.testing.assert_array_equal(again.values_before, found.values_before)
    np.testing.assert_array_equal(again.values_after, found.values_after)
    np.testing.assert_array_equal(again.scan("change").values, found.values_after - found.values_before)


def test_families_are_those_that_the_tests_name():
    assert set(FAMILIES) >= BOS_FAMILIES | {"gpt2", "gpt_neox"}
