"""Any phantom as a backend: its passes against the same network written down a second time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformer_lens.hook_points import HookPoint

import nmri3d
from nmri3d.errors import Cancelled, InputError, UnsupportedModelError
from nmri3d.models.backend import Backend, SiteEdit
from nmri3d.models.residual_backend import NEEDS_RESIDUAL, ResidualBackend, as_residual, refusal, require_residual
from nmri3d.models.unit_backend import Replacement, UnitBackend, as_units
from nmri3d.phantoms import backend as phantom_backend
from nmri3d.phantoms.backend import PhantomBackend
from tests.models.backends import tiny_backend
from tests.phantoms.plain import forward, kept, with_part
from tests.phantoms.tiny import Config, Tiny, tiny_phantom

TEXT = "a c e b"
ALL = frozenset(range(4))
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def tiny() -> PhantomBackend:
    return tiny_phantom()


def test_it_is_a_unit_backend_and_a_language_model_is_the_other_kind(tiny):
    llama = tiny_backend("llama")
    assert isinstance(tiny, Backend)
    assert isinstance(tiny, UnitBackend)
    assert not isinstance(tiny, ResidualBackend)
    assert isinstance(llama, ResidualBackend)
    assert as_residual(tiny) is None
    assert as_residual(llama) is require_residual(llama, "lens") is llama
    assert as_units(tiny) is tiny
    assert llama.structures == ("cortex",) * len(llama.components)


def test_what_it_says_of_itself(tiny):
    assert tiny.components.ids[:5] == ("encoder", "detector.0.0", "detector.0.1", "detector.0.2", "pool")
    assert tiny.components.ids[5:] == (*(f"unit.2.{i}" for i in range(8)), "group.0", "group.1", "readout")
    assert tiny.structures[4] == "hippocampus"
    assert tiny.structures[-3:] == ("cerebellum", "cerebellum", "left")
    assert tiny.widths.tolist() == [4, 1, 1, 1, 4, *[1] * 8, 3, 3, 5]
    info = tiny.info
    assert (info.n_layers, info.d_model, info.d_vocab, info.completeness) == (4, 5, 5, None)
    assert info.n_params == tiny.components.n_params.sum() == sum(p.numel() for p in tiny.phantom.parameters())
    assert tiny.token_id("c") == tiny.token_id(" c ") == 2
    with pytest.raises(InputError, match=r"no output 'z'; it has 'a', 'b'"):
        tiny.token_id("z")
    with pytest.raises(InputError, match="no sentence"):
        tiny.stimulus("a z")


def test_reads_are_what_passes_each_hook_point(tiny):
    run = tiny.run(tiny.stimulus(TEXT), dict.fromkeys(tiny.site_names, lambda passing: passing.numpy()), logits=[0, -1])
    expected = kept(tiny.phantom, TEXT)
    for site in ("hook_units", "hook_groups", "hook_readout"):
        np.testing.assert_allclose(run.reads[site], np.stack(expected[site]), **CLOSE)
    for site in ("hook_encoder", "hook_detector"):
        np.testing.assert_allclose(run.reads[site], expected[site][0], **CLOSE)
    np.testing.assert_allclose(run.reads["hook_pool"], expected["hook_pool"][0][None], **CLOSE)
    np.testing.assert_allclose(run.logits, forward(tiny.phantom, TEXT)[[0, -1]], **CLOSE)


def test_plans_hold_norms_signed_units_and_silence(tiny):
    stimulus, expected = tiny.stimulus(TEXT), kept(tiny.phantom, TEXT)
    whole, norms, largest, mean = (tiny.write_plan(name, ALL) for name in ("whole", "l2_norm", "max", "mean"))
    run = tiny.run(stimulus, whole.reads)
    units = np.stack(expected["hook_units"])
    groups, readout = np.stack(expected["hook_groups"]), np.stack(expected["hook_readout"])
    found = norms.collect(run)
    np.testing.assert_allclose(found[:, 5:13], units, **CLOSE)
    assert (found[:, 5:13] < 0).any()
    np.testing.assert_allclose(found[:, 13:15], np.linalg.norm(groups, axis=2), **CLOSE)
    np.testing.assert_allclose(found[:, 15], np.linalg.norm(readout, axis=1), **CLOSE)
    np.testing.assert_allclose(found[0, 0], np.linalg.norm(expected["hook_encoder"][0].mean(axis=0)), **CLOSE)
    np.testing.assert_allclose(found[0, 1:4], expected["hook_detector"][0].mean(axis=0), **CLOSE)
    assert np.isnan(found[1:, :5]).all()
    np.testing.assert_allclose(largest.collect(run)[:, 5:13], np.abs(units), **CLOSE)
    np.testing.assert_allclose(mean.collect(run)[:, 13:15], np.abs(groups).mean(axis=2), **CLOSE)
    writes = whole.collect(run)
    np.testing.assert_allclose(writes[:, 13:15, :3], groups, **CLOSE)
    assert np.isnan(writes[:, 13:15, 3:]).all()
    some = tiny.write_plan("l2_norm", frozenset({1})).collect(run)
    assert np.flatnonzero(~np.isnan(some[0])).tolist() == [4, 13, 14]  # the pool, and groups, which have no layer


@pytest.mark.parametrize("row", range(16))
def test_an_edit_at_some_steps_is_what_it_says(tiny, row):
    name = tiny.components.ids[row]
    once = tiny.target(name).once
    steps = [0] if once else [1, 3]
    edits = [nmri3d.Edit(name, "amplify", factor=-1.5, positions=steps)]
    from nmri3d.perturbation.edits import site_edits

    stimulus = tiny.stimulus(TEXT)
    run = tiny.run(stimulus, {}, edits=site_edits(tiny, stimulus, edits), logits=range(4))
    touch = with_part(tiny.phantom, row, lambda step, value: value * (-1.5 if step in steps else 1))
    np.testing.assert_allclose(run.logits, forward(tiny.phantom, TEXT, touch), **CLOSE)


def test_edits_see_the_steps_so_far_and_those_of_one_site_are_done_in_order(tiny):
    seen = []

    def look(passing: torch.Tensor) -> torch.Tensor:
        seen.append(int((~torch.isnan(passing).any(dim=1)).sum()))
        return passing + 1

    stimulus = tiny.stimulus(TEXT)
    run = tiny.run(
        stimulus,
        {"hook_units": lambda passing: passing},
        edits=[SiteEdit("hook_units", look), SiteEdit("hook_units", lambda passing: 2 * passing)],
    )
    assert seen == [1, 2, 3, 4]
    first = kept(tiny.phantom, TEXT)["hook_units"][0]
    np.testing.assert_allclose(run.reads["hook_units"][0], 2 * (first + 1), **CLOSE)


@pytest.mark.parametrize("at_once", [1, 3, 128])
def test_many_replacements_in_one_pass_are_each_by_itself(tiny, monkeypatch, at_once):
    monkeypatch.setattr(phantom_backend, "BATCH", at_once)
    stimulus, random = tiny.stimulus(TEXT), torch.Generator().manual_seed(3)
    activity = tiny.observe(stimulus)
    replacements = [
        Replacement(row, torch.randn(tiny.part_of(activity.sites, row).shape, generator=random))
        for row in [*range(16), 6, 14]
    ]
    together = tiny.run_each(stimulus, replacements).numpy()
    for each, outputs in zip(replacements, together, strict=True):
        values, part = each.values.double().numpy(), tiny.phantom.parts[each.row]

        def change(step, value, values=values, part=part):
            own = values if part.once and part.site != "hook_pool" else values[step]
            return own[..., 0] if part.scalar else own

        expected = forward(tiny.phantom, TEXT, with_part(tiny.phantom, each.row, change))
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=2e-6)
        by_itself = tiny.run_each(stimulus, [each])[0].numpy()
        np.testing.assert_allclose(outputs, by_itself, rtol=0, atol=1e-6)
    assert tiny.run_each(stimulus, []).shape == (0, 4, 5)


def test_gradients_are_those_of_small_changes(tiny):
    stimulus, small = tiny.stimulus(TEXT), 1e-5
    activity, gradients = tiny.activity_gradients(stimulus, lambda outputs: outputs[-1, 0] - outputs[-1, 4])
    np.testing.assert_allclose(activity.outputs, forward(tiny.phantom, TEXT), **CLOSE)
    for site, gradient in gradients.items():
        assert gradient.shape == activity.sites[site].shape
        index = tuple(torch.nonzero(gradient.abs() == gradient.abs().max())[0].tolist())

        def metric(shift, site=site, index=index):
            def touch(name, step, value):
                once = site in ("hook_encoder", "hook_detector", "hook_pool")
                place = index if site in ("hook_encoder", "hook_detector") else index[1:]
                if name != site or not (once or step == index[0]):
                    return value
                changed = value.copy()
                changed[place] += shift
                return changed

            outputs = forward(tiny.phantom, TEXT, touch)
            return outputs[-1, 0] - outputs[-1, 4]

        slope = (metric(small) - metric(-small)) / (2 * small)
        assert float(gradient[index]) == pytest.approx(slope, rel=1e-4), site


def test_nothing_of_a_pass_stays_whatever_happens():
    tiny = tiny_phantom()
    before, stimulus = tiny.fingerprint(), tiny.stimulus(TEXT)
    nmri3d.perturb(tiny, TEXT, nmri3d.Edit("unit.2.1", "zero"))
    nmri3d.ablate_all(tiny, TEXT)
    tiny.activity_gradients(stimulus, lambda outputs: outputs.sum())
    with pytest.raises(InputError, match=r"keep the shape \(4, 8\)"):
        tiny.run(stimulus, {}, edits=[SiteEdit("hook_units", lambda passing: passing[:, :2])])
    with pytest.raises(InputError, match="no site 'hook_z'"):
        tiny.run(stimulus, {"hook_z": lambda passing: passing})

    def stop(share, what):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        tiny.run(stimulus, {}, progress=stop)
    assert not any(point._forward_hooks for point in tiny.phantom.hook_dict.values())
    assert tiny.fingerprint() == before == tiny.info.fingerprint
    with torch.no_grad():
        tiny.phantom.w_pool[0, 0] += 1
    assert tiny.fingerprint() != before


def test_features_compare_parts_of_a_kind_by_their_weights(tiny):
    features = tiny.layout_features()
    units, weights = features[5:13], tiny.phantom.w_unit.detach().numpy()
    rows = np.concatenate([weights, tiny.phantom.b_unit.detach().numpy()[:, None]], axis=1)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows - rows.mean(axis=0)
    np.testing.assert_allclose(units @ units.T, rows @ rows.T, atol=1e-5)
    assert not features[0].any()  # the only one of its kind is like none more than another


class Broken(Tiny):
    """A phantom whose first part is described by `part`."""

    part = None

    @property
    def parts(self):
        return (self.part, *super().parts[1:])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"site": "hook_nowhere"}, "no hook point 'hook_nowhere'"),
        ({"once": False}, "which its parts do not describe"),
        ({"column": None, "scalar": True}, "must name its column"),
        ({"site": "hook_groups"}, "disagree about what passes it"),
        ({"site": "hook_never"}, "was called 0 times"),
    ],
)
def test_a_phantom_that_is_not_as_it_says_is_refused(changes, reason):
    network = Broken(Config())
    network.part = replace(Tiny(Config()).parts[0], **changes)
    network.hook_never = HookPoint()
    network.setup()
    with pytest.raises(UnsupportedModelError, match=reason):
        PhantomBackend(network)


def test_weights_that_are_no_partition_are_refused():
    class Greedy(Tiny):
        def weights(self, part):
            return {"W": self.w_out} if part.kind == "pool" else super().weights(part)

    with pytest.raises(UnsupportedModelError, match="own 404 parameters, and it has 362"):
        PhantomBackend(Greedy(Config()))


def test_what_it_cannot_do_is_told_in_the_sentence_that_asking_gets(tiny):
    llama = tiny_backend("llama")
    for what in NEEDS_RESIDUAL:
        assert refusal(llama, what) is None
        with pytest.raises(InputError) as raised:
            require_residual(tiny, what)
        assert str(raised.value) == refusal(tiny, what)
    assert refusal(llama, "neurons") is None
    assert refusal(tiny, "neurons") == "Tiny has no MLP neurons; scan its components"
