"""Scans, perturbations and the template of networks without a residual stream, against the network written down again."""

from dataclasses import replace

import numpy as np
import pytest

import nmri3d
from nmri3d.errors import Cancelled, InputError
from nmri3d.perturbation import clean_run, unit_sweep
from nmri3d.perturbation.metric import require_same_length
from nmri3d.phantoms.backend import PhantomBackend
from nmri3d.results import Comparison, Sweep, open_scan
from nmri3d.scans import unit_dti
from nmri3d.scans.generation import Generation
from nmri3d.scans.head_kinds import head_kinds
from nmri3d.scans.logit_lens import logit_lens
from nmri3d.scans.own_effect import own_effect
from nmri3d.template import access, available, functional_features, moving_passages, template_of
from nmri3d.template.access import cache_folder, templates_kept_in
from tests.phantoms.plain import forward, kept, with_part
from tests.phantoms.tiny import Config, Tiny, tiny_phantom

TEXT, OTHER = "a c e b", "b c d e"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module", autouse=True)
def own_templates(tmp_path_factory):
    """A cache of its own, so that no template of another run is taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(access.CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        patch.setattr(access, "_memory", type(access._memory)())
        yield


@pytest.fixture(scope="module")
def tiny() -> PhantomBackend:
    return tiny_phantom()


@pytest.fixture(scope="module")
def signals() -> PhantomBackend:
    return tiny_phantom(signal=True)


def reference_values(tiny) -> list[np.ndarray]:
    """fMRI values [steps, parts] of every reference stimulus, from the network written down again."""
    found = []
    for text in tiny.reference():
        sites, values = kept(tiny.phantom, text), np.full((len(text.split()), 16), np.nan)
        values[0, 0] = np.linalg.norm(sites["hook_encoder"][0].mean(axis=0))
        values[0, 1:4] = sites["hook_detector"][0].mean(axis=0)
        values[0, 4] = np.linalg.norm(sites["hook_pool"][0])
        values[:, 5:13] = sites["hook_units"]
        values[:, 13:15] = np.linalg.norm(sites["hook_groups"], axis=2)
        values[:, 15] = np.linalg.norm(sites["hook_readout"], axis=1)
        found.append(values)
    return found


def replaced(tiny, row, values) -> np.ndarray:
    """Outputs with one part's activation replaced by `values`: None, zero; else what passes, step by step."""
    part = tiny.phantom.parts[row]

    def change(step, value):
        if values is None:
            return np.zeros_like(value)
        own = values[step]
        if part.column is None:
            return own
        return own[..., part.column] if part.scalar else own[part.column]

    return forward(tiny.phantom, TEXT, with_part(tiny.phantom, row, change))


# -- T1, T2, fMRI ------------------------------------------------------------------------------------------------------


def test_t1_and_t2_are_of_a_parts_own_weights(tiny):
    assert nmri3d.scan(tiny, "T1").values.sum() == tiny.info.n_params
    scan = nmri3d.scan(tiny, "T2")
    weights = np.append(tiny.phantom.w_unit[2].detach().numpy(), tiny.phantom.b_unit[2].detach().numpy())
    assert scan.values[0, 7] == pytest.approx(weights.std(), rel=1e-5)
    assert np.isnan(scan.details["ov_norm"]).all()
    with pytest.raises(InputError, match="no heads whose circuits"):
        nmri3d.scan(tiny, "T2", statistic="ov_norm")


def test_a_part_without_weights_has_no_statistics():
    tiny = tiny_phantom()
    own = tiny.phantom.weights
    tiny.phantom.weights = lambda part: {} if part.kind == "pool" else own(part)
    scan = nmri3d.scan(tiny, "T2")
    assert np.flatnonzero(np.isnan(scan.values[0])).tolist() == [4]


def test_fmri_is_the_activation_with_the_sign_of_single_units(tiny, tmp_path):
    scan = nmri3d.scan(tiny, "fMRI", TEXT)
    expected = kept(tiny.phantom, TEXT)
    np.testing.assert_allclose(scan.values[:, 5:13], expected["hook_units"], **CLOSE)
    assert scan.signed
    assert scan.units == "activation, its L2 norm where a part has several units"
    assert scan.step_axis == "task step"
    assert "residual" not in scan.details
    raw = nmri3d.scan(tiny, "fMRI", TEXT, aggregation="raw", positions=[-1])
    np.testing.assert_array_equal(raw.values, scan.values[-1:])
    np.testing.assert_allclose(raw.details["writes"][0, 13:15, :3], expected["hook_groups"][-1], **CLOSE)
    largest = nmri3d.scan(tiny, "fMRI", TEXT, aggregation="max")
    assert not largest.signed
    np.testing.assert_allclose(largest.values[:, 5:13], np.abs(expected["hook_units"]), **CLOSE)
    np.testing.assert_array_equal(open_scan(scan.save(tmp_path / "scan")).values, scan.values)


# -- the template and FLAIR --------------------------------------------------------------------------------------------


def test_the_template_is_that_of_its_own_stimuli_step_by_step(tiny):
    template, values = template_of(tiny), reference_values(tiny)
    later = np.concatenate([each[1:] for each in values])
    np.testing.assert_allclose(template.fmri_mean[5:], later.mean(axis=0)[5:], **CLOSE)
    np.testing.assert_allclose(template.fmri_std_first, np.stack([v[0] for v in values]).std(axis=0), **CLOSE)
    assert np.isnan(template.mean[:5]).all()
    units = np.concatenate([kept(tiny.phantom, text)["hook_groups"][1:] for text in tiny.reference()])
    np.testing.assert_allclose(template.mean[13:15, :3], units.mean(axis=0), **CLOSE)
    lengths = np.array([len(each) for each in values])
    enough = [step for step in range(max(lengths)) if (lengths > step).sum() >= 30]
    assert template.activity.n.tolist() == [*((lengths > step).sum() for step in enough), len(later)]
    assert len(enough) < max(lengths)  # so that the pooled row is looked at below
    strongest = moving_passages(tiny, template, "detector.0.1", k=1)[0]
    assert strongest.value == pytest.approx(max(abs(each[0, 2]) for each in values), rel=1e-5)
    assert strongest.text == tiny.reference()[strongest.passage]


def test_flair_is_the_z_score_against_the_same_step(tiny):
    text = "a c e b d c"  # the last step is reached by too few stimuli, and compared with all later ones
    scan, values = nmri3d.scan(tiny, "FLAIR", text), reference_values(tiny)
    own = nmri3d.scan(tiny, "fMRI", text).values
    n_steps = len(template_of(tiny).activity.n) - 1
    for step in range(len(own)):
        samples = [each[step] for each in values if len(each) > step] if step < n_steps else None
        samples = np.concatenate([each[1:] for each in values]) if samples is None else np.stack(samples)
        z = (own[step] - samples.mean(axis=0)) / samples.std(axis=0)
        np.testing.assert_allclose(scan.details["z"][step], z, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(scan.values, np.abs(scan.details["z"]))
    np.testing.assert_allclose(scan.details["summary"], np.nanmean(scan.values, axis=1), rtol=1e-5)
    assert "|z|" in scan.units


def test_flair_finds_a_part_that_was_silenced():
    tiny = tiny_phantom()
    quiet = nmri3d.scan(tiny, "FLAIR", TEXT, positions=[2], edits=[nmri3d.Edit("group.1", "zero")])
    usual = nmri3d.scan(tiny, "FLAIR", TEXT, positions=[2])
    norms = np.stack([each[2] for each in reference_values(tiny) if len(each) > 2])[:, 14]
    assert quiet.details["z"][0, 14] == pytest.approx(-norms.mean() / norms.std(), rel=1e-3)
    assert quiet.values[0, 14] > usual.values[0, 14] + 1
    assert quiet.provenance.config["edits"] == [{"component": "group.1", "kind": "zero"}]


def test_what_never_varied_is_at_zero_or_as_far_as_it_can_be():
    network = Tiny(Config())
    network.w_unit.data[6] = 0
    network.b_unit.data[6] = 0.3
    tiny = PhantomBackend(network)
    activity = template_of(tiny).activity
    usual = nmri3d.scan(tiny, "FLAIR", TEXT).details["z"][:, 11]
    assert (usual == 0).all()
    moved = nmri3d.scan(tiny, "FLAIR", TEXT, edits=[nmri3d.Edit("unit.2.6", "zero")]).details["z"][:, 11]
    np.testing.assert_allclose(moved, -np.sqrt(activity.n[:4]), rtol=1e-6)


def test_flair_options_of_the_lens_are_refused(tiny):
    for options in ({"alpha": 0.5}, {"sites": ["mlp"]}, {"enabled_from": 1}):
        with pytest.raises(InputError, match="since it has no logit lens"):
            nmri3d.scan(tiny, "FLAIR", TEXT, **options)
    for template in ("off", "ready"):
        with pytest.raises(InputError, match="needs the template"):
            nmri3d.scan(tiny_phantom(seed=9), "FLAIR", TEXT, template=template)


def test_a_template_is_kept_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv(access.CACHE_VARIABLE, str(tmp_path / "cache"))
    tiny = tiny_phantom(seed=7)
    assert not available(tiny)
    first = template_of(tiny)
    monkeypatch.setattr(access, "_memory", type(access._memory)())
    assert available(tiny)
    again = template_of(tiny)
    assert again is not first
    for name in ("mean", "std", "n", "std_first"):
        np.testing.assert_array_equal(getattr(again.activity, name), getattr(first.activity, name))
    with templates_kept_in(tmp_path / "elsewhere"):
        template_of(tiny_phantom(seed=5))
        assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    assert len(list(cache_folder().iterdir())) == 1


def test_functional_features_hold_what_is_active_together(tiny):
    features = functional_features(tiny)
    series = np.concatenate(reference_values(tiny))[:, 5:13]
    np.testing.assert_allclose(features[5:13] @ features[5:13].T, np.corrcoef(series.T), atol=1e-3)


# -- perturbations -----------------------------------------------------------------------------------------------------


def test_every_kind_of_edit_is_what_it_says(tiny):
    template = template_of(tiny)
    other = kept(tiny.phantom, OTHER)["hook_groups"]
    given = np.array([0.5, -1.0, 2.0])
    random = np.random.default_rng([4, *b"group.0"]).standard_normal((4, 3))
    means = [template.mean_first[13, :3], *[template.mean[13, :3]] * 3]
    cases = {
        "zero": ({}, lambda step, v: 0 * v),
        "amplify": ({"factor": 3.0}, lambda step, v: 3 * v),
        "invert": ({}, lambda step, v: -v),
        "noise": ({"sigma": 2.0, "seed": 4}, lambda step, v: v + 2 * template.std[13, :3] * random[step]),
        "ablate": ({}, lambda step, v: means[step]),
        "inject": ({"values": given}, lambda step, v: given),
        "patch": ({"source": OTHER}, lambda step, v: other[step][0]),
    }
    for kind, (options, change) in cases.items():
        comparison = nmri3d.perturb(tiny, TEXT, nmri3d.Edit("group.0", kind, **options))
        expected = forward(tiny.phantom, TEXT, with_part(tiny.phantom, 13, change))[-1]
        after = {each.token_id: each.logit for each in comparison.after}
        np.testing.assert_allclose([after[i] for i in range(5)], expected, err_msg=kind, **CLOSE)
        assert comparison.logit_after == pytest.approx(expected[comparison.token.token_id], abs=1e-5)


def test_edits_stack_and_the_values_after_are_those_of_the_edited_run(tiny):
    edits = [nmri3d.Edit("unit.2.1", "zero"), nmri3d.Edit("unit.2.4", "amplify", factor=2.0, positions=[-1])]
    comparison = nmri3d.perturb(tiny, TEXT, edits, clean=clean_run(tiny, TEXT))

    def touch(site, step, value):
        if site != "hook_units":
            return value
        value = value.copy()
        value[1] = 0
        value[4] *= 2 if step == 3 else 1
        return value

    sites = []
    forward(tiny.phantom, TEXT, lambda s, t, v: (sites.append((s, touch(s, t, v))), touch(s, t, v))[1])
    np.testing.assert_allclose(comparison.values_after[:, 5:13], [v for s, v in sites if s == "hook_units"], **CLOSE)
    assert comparison.signed
    assert comparison.scan("after").step_axis == "task step"
    assert comparison.tokens == ("a", "c", "e", "b")
    with pytest.raises(InputError, match="clean run belongs to another prompt"):
        nmri3d.perturb(tiny, TEXT, edits, clean=clean_run(tiny, OTHER))


def test_what_acts_once_is_edited_before_the_first_step_only(tiny):
    comparison = nmri3d.perturb(tiny, TEXT, nmri3d.Edit("encoder", "patch", source=OTHER))
    other = kept(tiny.phantom, OTHER)["hook_encoder"][0]
    expected = forward(tiny.phantom, TEXT, with_part(tiny.phantom, 0, lambda step, v: other))
    assert comparison.logit_after == pytest.approx(expected[-1, comparison.token.token_id], abs=1e-5)
    same = nmri3d.perturb(tiny, TEXT, nmri3d.Edit("encoder", "patch", source=TEXT, positions=[0, 2]))
    assert same.kl == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match="acts before the first task step only"):
        nmri3d.perturb(tiny, TEXT, nmri3d.Edit("detector.0.1", "zero", positions=[1, 2]))
    with pytest.raises(InputError, match="equally many task steps"):
        nmri3d.perturb(tiny, TEXT, nmri3d.Edit("encoder", "patch", source="a b"))


def test_signals_have_values_and_no_probabilities(signals, tmp_path):
    comparison = nmri3d.perturb(signals, TEXT, nmri3d.Edit("unit.2.3", "zero"))
    before, after = forward(signals.phantom, TEXT)[-1], replaced(signals, 8, None)[-1]
    assert [each.token for each in comparison.before] == ["a (mm)", "b (mm)", "c (mm)", "d (mm)", "e (mm)"]
    np.testing.assert_allclose([each.logit for each in comparison.before], before, **CLOSE)
    np.testing.assert_allclose([each.logit for each in comparison.after], after, **CLOSE)
    assert {each.probability for each in (*comparison.before, *comparison.after)} == {None}
    assert comparison.kl is None
    assert comparison.probability_after is None
    assert comparison.outputs == "signal"
    assert comparison.token.token_id == np.abs(after - before).argmax()
    assert comparison.logit_diff == pytest.approx((after - before)[comparison.token.token_id], abs=1e-5)
    again = Comparison.open(comparison.save(tmp_path / "comparison"))
    assert again.before == comparison.before
    assert (again.outputs, again.step_axis, again.signed, again.kl) == ("signal", "task step", True, None)


# -- sweeps and DTI ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["zero", "mean", "patch"])
def test_a_sweep_is_the_loop_over_interventions(tiny, effect):
    corrupt = OTHER if effect == "patch" else None
    sweep = nmri3d.ablate_all(tiny, TEXT, target="b", foil="d", effect=effect, corrupt=corrupt)
    sites = kept(tiny.phantom, OTHER)
    template = template_of(tiny)
    clean = forward(tiny.phantom, TEXT)[-1]
    for row in range(16):
        part, values = tiny.phantom.parts[row], None
        if effect == "patch":
            values = sites[part.site]
        if effect == "mean":
            width = tiny.widths[row]
            mean = [template.mean_first[row, :width], *[template.mean[row, :width]] * 3]
            outputs = forward(
                tiny.phantom,
                TEXT,
                with_part(
                    tiny.phantom,
                    row,
                    lambda step, v, mean=mean, part=part: np.broadcast_to(
                        mean[step][0] if part.scalar else mean[step], v.shape
                    ),
                ),
            )[-1]
        else:
            outputs = replaced(tiny, row, values)[-1]
        expected = (outputs[1] - outputs[3]) - (clean[1] - clean[3])
        assert sweep.values[row] == pytest.approx(expected, abs=1e-5), tiny.components.ids[row]
    assert sweep.clean_metric == pytest.approx(clean[1] - clean[3], abs=1e-5)
    exact = nmri3d.scan(tiny, "DTI", TEXT, target="b", foil="d", effect=effect, corrupt=corrupt)
    np.testing.assert_array_equal(exact.values[0], -sweep.values)
    assert exact.provenance.config["method"] == "exact"
    assert exact.tracts is None
    assert exact.units == "change of the logit of 'b' minus logit of 'd'"


def test_a_part_that_equals_its_replacement_is_not_run(monkeypatch):
    tiny, run = tiny_phantom(), []
    monkeypatch.setattr(tiny, "run_each", lambda s, r, p: run.extend(r) or PhantomBackend.run_each(tiny, s, r, p))
    tiny.phantom.w_group.data[1] = 0
    sweep = nmri3d.ablate_all(tiny, TEXT, effect="zero", components=["group.0", "group.1", "encoder"])
    assert [each.row for each in run] == [0, 13]
    assert sweep.values[14] == 0
    assert np.isnan(sweep.values[1:13]).all()


def test_a_signal_is_its_own_metric_and_a_foil_is_taken_off(signals):
    clean, after = forward(signals.phantom, TEXT)[1], replaced(signals, 8, None)[1]
    one = nmri3d.ablate_all(signals, TEXT, target="b (mm)", position=1)
    assert one.values[8] == pytest.approx((after - clean)[1], abs=1e-5)
    assert (one.foil, one.units) == (None, "change of the b (mm)")
    two = nmri3d.ablate_all(signals, TEXT, target="b (mm)", foil="c (mm)", position=1)
    assert two.values[8] == pytest.approx((after - clean)[1] - (after - clean)[2], abs=1e-5)
    default = nmri3d.ablate_all(signals, TEXT)
    assert default.target[1] == np.abs(forward(signals.phantom, TEXT)[-1]).argmax()
    scan = nmri3d.scan(signals, "DTI", TEXT, effect="zero")
    assert int(scan.details["foil"]) == -1
    assert open_sweep(one) == (None, ("b (mm)", 1))


def open_sweep(sweep):
    again = Sweep.open(sweep.to_bytes())
    return again.foil, again.target


@pytest.mark.parametrize("effect", ["zero", "patch"])
def test_attribution_is_exact_where_the_network_is_linear_and_no_part_feeds_itself(effect):
    linear = tiny_phantom(linear=True)
    options = {"effect": effect, "corrupt": "b" if effect == "patch" else None, "target": "c", "foil": "a"}
    exact = nmri3d.scan(linear, "DTI", "a", method="exact", **options).values[0]
    fast = nmri3d.scan(linear, "DTI", "a", method="atp", **options)
    np.testing.assert_allclose(fast.values[0], exact, rtol=1e-4, atol=1e-5)
    assert np.abs(exact).min() > 1e-4 or effect == "patch"


def test_attribution_of_what_feeds_itself_is_that_of_a_shift(tiny):
    linear = tiny_phantom(linear=True)
    fast = nmri3d.scan(linear, "DTI", TEXT, method="atp", effect="zero", target="c", foil="a")
    units = kept(linear.phantom, TEXT)["hook_units"]
    shifted = forward(linear.phantom, TEXT, with_part(linear.phantom, 7, lambda step, v: v - units[step][2]))[-1]
    clean = forward(linear.phantom, TEXT)[-1]
    expected = (clean[2] - clean[0]) - (shifted[2] - shifted[0])
    assert fast.values[0, 7] == pytest.approx(expected, rel=1e-4)
    by_step = fast.details["per_position"]
    assert np.isnan(by_step[1:, :5]).all()
    np.testing.assert_allclose(by_step[:, 5:].sum(axis=0), fast.values[0, 5:], rtol=1e-5)


def test_a_long_sweep_is_asked_for_and_auto_avoids_it(tiny, monkeypatch):
    monkeypatch.setattr(unit_sweep, "PROBE", 2)
    told = []
    nmri3d.ablate_all(tiny, TEXT, confirm=lambda seconds: told.append(seconds) or True)
    assert told[0] > 0
    with pytest.raises(Cancelled, match="was not started"):
        nmri3d.ablate_all(tiny, TEXT, confirm=lambda seconds: False)
    monkeypatch.setattr(unit_dti, "AFFORDABLE", 0.0)
    assert nmri3d.scan(tiny, "DTI", TEXT).provenance.config["method"] == "atp"


def test_patches_need_another_stimulus_of_as_many_steps(tiny):
    with pytest.raises(InputError, match="equally many task steps; they have 4 and 2"):
        nmri3d.scan(tiny, "DTI", TEXT, corrupt="a b")
    with pytest.raises(InputError, match="are the same"):
        nmri3d.ablate_all(tiny, TEXT, effect="patch", corrupt=f" {TEXT}")


def test_stimuli_of_equal_ids_and_other_words_are_two(tiny):
    """The ids of a network of control steps only number them."""
    clean, other = (replace(tiny.stimulus(text), ids=np.arange(4)) for text in (TEXT, OTHER))
    require_same_length(tiny, clean, other)
    with pytest.raises(InputError, match="are the same"):
        require_same_length(tiny, clean, replace(clean, text=f" {TEXT}"))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_needs_a_residual_stream_is_refused_in_words(tiny):
    asked = {
        "direct attribution": lambda: nmri3d.scan(tiny, "DTI", TEXT, method="dla"),
        "no edges": lambda: nmri3d.scan(tiny, "DTI", TEXT, edges="eap"),
        "causal trace": lambda: nmri3d.trace(tiny, TEXT, OTHER),
        "no path": lambda: nmri3d.verify_edge(tiny, TEXT, "encoder", "readout", "q"),
        "no logit lens": lambda: logit_lens(tiny, TEXT),
        "effect of its own": lambda: own_effect(tiny, TEXT, "encoder"),
        "no attention heads": lambda: head_kinds(tiny),
        "write a text on": lambda: Generation(tiny, TEXT, 3),
    }
    for reason, ask in asked.items():
        with pytest.raises(InputError, match=f"Tiny has no residual stream: .*{reason}"):
            ask()
    for ask in (
        lambda: nmri3d.scan(tiny, "fMRI", TEXT, level="neuron"),
        lambda: nmri3d.scan_neurons(tiny, "T1"),
    ):
        with pytest.raises(InputError, match="Tiny has no MLP neurons"):
            ask()
    with pytest.raises(InputError, match=r"no component 'unit\.9'; it has 16, from encoder to readout"):
        nmri3d.perturb(tiny, TEXT, nmri3d.Edit("unit.9", "zero"))
