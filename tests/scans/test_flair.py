"""FLAIR on tiny models, against plain Hugging Face logits and softmaxes in float64."""

from functools import cache

import numpy as np
import pytest
import torch

import nmri3d
from nmri3d.errors import Cancelled, InputError
from nmri3d.results import open_scan
from nmri3d.scans.flair import scan_flair
from nmri3d.scans.flair_config import FlairConfig
from nmri3d.scans.own_effect import own_effect
from nmri3d.template import access
from nmri3d.template.build import build_template
from nmri3d.template.lens import FINAL, lens_rows, lens_statistics
from nmri3d.template.reference import passages
from nmri3d.template.template import stratum_of
from tests.models.backends import tiny_backend
from tests.models.tiny import BOS_FAMILIES, FAMILIES, LAYERS, PROMPTS

families = pytest.mark.parametrize("family", FAMILIES)
PROMPT = PROMPTS[1]


@cache
def template(family):
    return build_template(tiny_backend(family), texts=passages()[:60])


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache; a template is built where a test does not bring its own."""
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    monkeypatch.setattr(access, "_memory", type(access._memory)())


def with_template(family):
    """The backend, its template at hand."""
    backend = tiny_backend(family)
    access._remember(template(family))
    return backend


def flair(backend, prompt=PROMPT, **options):
    return scan_flair(backend, prompt, FlairConfig(**options))


def naive(backend, prompt):
    """log P of the model [T, V] and log q of every lens row [rows, T, V], float64, through Hugging Face's own modules."""
    stimulus = backend.stimulus(prompt)
    hf, ids = backend.hf_model, torch.from_numpy(stimulus.ids)[None]
    points = lens_rows(backend)
    with torch.no_grad():
        final = hf(input_ids=ids).logits[0].double().log_softmax(-1)
        reads = backend.run(stimulus, {p.hook: lambda r: r.clone() for p in points}).reads
        rows = [_logits(backend, reads[p.hook]).double().log_softmax(-1) for p in points]
    return final, torch.stack(rows)


def _logits(backend, residual):
    hf = backend.hf_model
    base = hf.base_model
    norm = next(m for name, m in base.named_children() if name in ("norm", "ln_f", "final_layer_norm"))
    logits = hf.get_output_embeddings()(norm(residual))
    cap = getattr(hf.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@families
def test_kl_and_entropy_equal_the_plain_computation(family):
    backend = tiny_backend(family)
    scan = flair(backend, template="off")
    final, rows = naive(backend, PROMPT)
    kl = (final.exp() * (final - rows)).sum(-1)
    np.testing.assert_allclose(scan.details["kl"][:-1], kl[:-1], atol=1e-4)
    np.testing.assert_allclose(scan.details["entropy"], -(rows.exp() * rows).sum(-1), atol=1e-4)
    np.testing.assert_allclose(scan.details["final_entropy"], -(final.exp() * final).sum(-1), atol=1e-4)
    doubt = 1 - final.exp().amax(-1)
    np.testing.assert_allclose(scan.details["one_minus_max_probability"], doubt, rtol=1e-4, atol=1e-6)
    assert kl[:-1].min() > 0.01, "the model is too tame to tell a wrong lens from a right one"


@families
def test_the_last_row_is_the_models_own_distribution(family):
    backend = tiny_backend(family)
    final, rows = naive(backend, PROMPT)
    np.testing.assert_allclose(rows[-1], final, atol=1e-4)
    scan = flair(backend, template="off")
    np.testing.assert_allclose(scan.details["entropy"][-1], scan.details["final_entropy"], atol=1e-5)
    assert np.isnan(scan.details["kl"][-1]).all()
    assert not np.isnan(scan.details["kl"][:-1]).any()


@families
def test_rows_follow_the_stream_and_components_take_the_point_they_reach(family):
    backend = with_template(family)
    scan = flair(backend)
    layer, site = scan.details["row_layer"].tolist(), scan.details["row_site"].tolist()
    if backend.info.parallel_blocks:
        assert list(zip(layer, site, strict=True)) == [(k, "mlp") for k in range(LAYERS)]
    else:
        assert list(zip(layer, site, strict=True)) == [(k, s) for k in range(LAYERS) for s in ("attn", "mlp")]
    score = dict(zip(zip(layer, site, strict=True), scan.details["score"], strict=True))
    table = backend.components
    for row, kind in enumerate(table.kind):
        if kind in ("embed", "unembed"):
            assert np.isnan(scan.values[:, row]).all()
            continue
        own = "mlp" if kind == "mlp" or backend.info.parallel_blocks else "attn"
        np.testing.assert_array_equal(scan.values[:, row], score[int(table.layer[row]), own])
    assert (scan.units, scan.signed) == ("percentile of the reference text", False)


@families
def test_scores_are_weighted_percentiles_of_the_template(family):
    backend = with_template(family)
    d = flair(backend, alpha=3, beta=1).details
    reference, positions = template(family).lens, d["position"]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(
            d["score"][:-1], (0.75 * d["percentile_kl"] + 0.25 * d["percentile_entropy"])[:-1], rtol=1e-5
        )
    np.testing.assert_array_equal(d["score"][-1], d["percentile_entropy"][-1])
    strata = stratum_of(positions)
    row, position = 1, len(positions) - 1
    chosen = stratum_of(reference.position) == strata[position]
    x, y = reference.rarity[chosen].astype(float), reference.entropy[row, chosen].astype(float)
    slope, intercept = np.polyfit(x, y, 1)
    final, _ = naive(backend, PROMPT)
    u = torch.from_numpy(template(family).final_distribution.astype(np.float64))
    rarity = float(-(final[position].exp() * u.log()).sum())
    assert d["rarity"][position] == pytest.approx(rarity, abs=1e-4)
    residual = float(d["entropy"][row, position]) - intercept - slope * rarity
    expected = 100 * np.mean(y - intercept - slope * x < residual)
    assert d["percentile_entropy"][row, position] == pytest.approx(expected, abs=0.01 + 100 / chosen.sum())
    first = d["score"][:, 0]
    assert np.isnan(first).all() == (family in BOS_FAMILIES)
    assert not np.isnan(d["score"][:, 1:]).any()


def test_the_reference_text_itself_is_ordinary():
    """Passages of the template rank evenly among themselves: the mean percentile is near 50."""
    backend = with_template("gpt2")
    scores = [flair(backend, text).details["percentile_kl"][:-1, 4:] for text in passages()[:60]]
    assert np.concatenate([s.ravel() for s in scores]).mean() == pytest.approx(50, abs=5)


def test_the_summary_is_the_mean_over_the_enabled_rows():
    backend = with_template("gpt2")
    d = flair(backend).details
    assert d["enabled"].tolist() == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]  # half way of three layers; never the last row
    np.testing.assert_allclose(d["summary"], d["score"][2:5].mean(axis=0), rtol=1e-5)
    d = flair(backend, enabled_from=-1).details
    assert d["enabled"].tolist() == [False] * 4 + [True, False]
    np.testing.assert_allclose(d["summary"], d["score"][4], rtol=1e-5)


def test_a_weight_of_zero_leaves_a_part_out():
    backend = with_template("gpt2")
    only_kl, only_entropy = flair(backend, beta=0).details, flair(backend, alpha=0).details
    np.testing.assert_allclose(only_kl["score"][:-1], only_kl["percentile_kl"][:-1], rtol=1e-6)
    assert np.isnan(only_kl["score"][-1]).all()
    np.testing.assert_allclose(only_entropy["score"], only_entropy["percentile_entropy"], rtol=1e-6)


def test_some_sites_layers_and_positions_are_part_of_the_whole():
    backend = with_template("qwen3")
    whole = flair(backend)
    part = flair(backend, sites=["mlp"], layers=[-1, 1], positions=[-1, 2])
    rows = [3, 5]
    n = len(whole.tokens)
    assert part.tokens == (whole.tokens[-1], whole.tokens[2])
    for name in ("kl", "entropy", "score", "percentile_kl"):
        np.testing.assert_allclose(part.details[name], whole.details[name][rows][:, [n - 1, 2]], rtol=1e-5, atol=1e-4)
    mlps = [backend.components.row(f"blocks.{k}.mlp") for k in (1, 2)]
    np.testing.assert_allclose(part.values[:, mlps], whole.values[[n - 1, 2]][:, mlps], rtol=1e-5, atol=1e-4)
    assert np.isnan(np.delete(part.values, mlps, axis=1)).all()


def test_without_a_template_values_are_raw():
    backend = tiny_backend("gpt2")
    for choice in ("off", "ready"):
        scan = flair(backend, template=choice)
        assert scan.units == "KL(final || lens) in nats, no template"
        np.testing.assert_array_equal(scan.values[:, backend.components.row("blocks.1.mlp")], scan.details["kl"][3])
        for name in ("percentile_kl", "percentile_entropy", "score", "summary", "rarity"):
            assert np.isnan(scan.details[name]).all()
        assert scan.provenance.config["template"] is None
    assert not access.available(backend)
    backend = with_template("gpt2")
    assert flair(backend, template="ready").units == "percentile of the reference text"


def test_auto_builds_the_template_and_keeps_it(monkeypatch):
    monkeypatch.setattr(access, "build_template", lambda model, progress: template("qwen2"))
    backend = tiny_backend("qwen2")
    assert "percentile" in flair(backend).units
    assert access.available(backend)


def test_blocks_of_any_size_give_the_same_numbers(monkeypatch):
    backend = tiny_backend("gemma2")
    whole = flair(backend, template="off").details
    monkeypatch.setattr("nmri3d.template.lens.BLOCK_BYTES", 4 * 384 * 5)
    monkeypatch.setattr("nmri3d.template.lens.POSITIONS", 3)
    monkeypatch.setattr("nmri3d.template.lens.PIECE", 100)
    pieces = flair(backend, template="off").details
    for name in ("kl", "entropy", "final_entropy"):
        np.testing.assert_allclose(pieces[name], whole[name], atol=1e-5, err_msg=name)


def test_extreme_logits_stay_finite_and_exact():
    """A distribution that is all on one token, and one whose logits are far from 0."""

    class Plain:
        class info:
            d_vocab = 6

        def lens(self, residual):
            return residual.clone()

    final = torch.tensor([[0.0, 0, 0, 0, 0, 0], [300.0, 0, 0, 0, 0, 0]])
    rows = torch.stack([final + 1e4, torch.tensor([[80.0, 0, 0, 0, 0, 0], [0.0, 5, 5, 5, 5, 5]])])
    found = lens_statistics(Plain(), lens_rows(tiny_backend("gpt2"))[:2], rows, final)
    log_p, log_q = final.double().log_softmax(-1), rows.double().log_softmax(-1)
    np.testing.assert_allclose(found.kl, (log_p.exp() * (log_p - log_q)).sum(-1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.entropy, -(log_q.exp() * log_q).sum(-1), atol=1e-6)
    np.testing.assert_allclose(found.final_doubt, [5 / 6, 0], atol=1e-7)


def test_a_prompt_is_scanned_under_edits():
    backend = tiny_backend("llama")
    edits = [nmri3d.Edit("blocks.1.mlp", "zero")]
    scan = flair(backend, template="off", edits=edits)
    handle = backend.hf_model.base_model.layers[1].mlp.register_forward_hook(lambda m, i, output: 0 * output)
    try:
        final, rows = naive(backend, PROMPT)
    finally:
        handle.remove()
    kl = (final.exp() * (final - rows)).sum(-1)
    np.testing.assert_allclose(scan.details["kl"][:-1], kl[:-1], atol=2e-4)
    assert np.abs(scan.details["kl"][:-1] - flair(backend, template="off").details["kl"][:-1]).max() > 0.01
    assert scan.provenance.config["edits"] == [{"component": "blocks.1.mlp", "kind": "zero"}]


@families
def test_own_effect_is_the_lens_with_and_without_the_write(family):
    backend = tiny_backend(family)
    final, _ = naive(backend, PROMPT)
    plan = backend.write_plan("whole", frozenset(range(LAYERS)))
    hooks = {p.hook: lambda r: r.clone() for p in lens_rows(backend)}
    run = backend.run(backend.stimulus(PROMPT), {**plan.reads, **hooks})
    writes = plan.collect(run)
    for name in ("blocks.1.attn.head_3", "blocks.1.mlp", "blocks.2.mlp"):
        found = own_effect(backend, PROMPT, name)
        row = backend.components.row(name)
        site = "mlp" if name.endswith("mlp") or backend.info.parallel_blocks else "attn"
        [point] = lens_rows(backend, (site,), frozenset({found.layer}))
        assert found.site == site
        x = run.reads[point.hook]
        lens = _logits(backend, x).detach().double().log_softmax(-1)
        without = _logits(backend, x - torch.from_numpy(writes[:, row])).detach().double().log_softmax(-1)
        np.testing.assert_allclose(found.change, (lens.exp() * (lens - without)).sum(-1), atol=1e-4)
        toward = (final.exp() * (lens - without)).sum(-1)
        np.testing.assert_allclose(found.toward_final, toward, atol=2e-4)
        entropy = -(lens.exp() * lens).sum(-1) + (without.exp() * without).sum(-1)
        np.testing.assert_allclose(found.entropy_change, entropy, atol=2e-4)
        assert found.change.max() > 0.01
        if point.hook == FINAL:  # the lens is the model's own answer there
            np.testing.assert_allclose(found.toward_final, found.change, atol=2e-4)


def test_a_scan_says_what_it_is_and_survives_saving(tmp_path):
    backend = with_template("llama")
    scan = flair(backend, layers=[0, 2])
    config = scan.provenance.config
    assert (config["alpha"], config["beta"], config["layers"]) == (0.6, 0.4, [0, 2])
    assert config["template"] == f"{template('llama').n_tokens} tokens of reference text"
    assert scan.details["special"].tolist() == [True] + [False] * (len(scan.tokens) - 1)
    again = open_scan(scan.save(tmp_path / "flair.npz"))
    np.testing.assert_array_equal(again.values, scan.values)
    assert again.details["row_site"].tolist() == scan.details["row_site"].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha is a weight"),
        ({"beta": "much"}, "beta is a weight"),
        ({"alpha": float("nan")}, "alpha is a weight"),
        ({"alpha": 0, "beta": 0}, "alpha and beta are both 0"),
        ({"sites": ["resid"]}, "a site is one of attn, mlp; got 'resid'"),
        ({"sites": "mlp"}, "sites is a list"),
        ({"positions": []}, "positions is an empty list"),
        ({"positions": [99]}, "position 99 is outside the prompt"),
        ({"layers": [3]}, "layer 3 is outside this model"),
        ({"enabled_from": 3}, "layer 3 is outside this model"),
        ({"template": "perhaps"}, "template is one of auto, ready, off"),
    ],
)
def test_what_cannot_be_scanned_is_refused_in_words(options, message):
    with pytest.raises(InputError, match=message):
        flair(tiny_backend("gpt2"), **{"template": "off"} | options)


def test_own_effect_refuses_what_has_no_point():
    with pytest.raises(InputError, match="embed belongs to no layer"):
        own_effect(tiny_backend("gpt2"), PROMPT, "embed")
    with pytest.raises(InputError, match="has no component"):
        own_effect(tiny_backend("gpt2"), PROMPT, "blocks.9.mlp")


def test_a_scan_can_be_withdrawn_and_reports_in_order():
    backend = with_template("gpt2")
    shares = []
    scan_flair(backend, PROMPT, FlairConfig(), progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def stop(share, what):
        if what == "logit lens":
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        scan_flair(backend, PROMPT, FlairConfig(), progress=stop)


@pytest.mark.model
def test_the_real_model_agrees_with_float64_softmaxes(smollm2):
    prompt = "When Mary and John went to the store, John gave a drink to"
    scan = scan_flair(smollm2, prompt, FlairConfig(template="off", layers=[0, 14, 29]))
    stimulus = smollm2.stimulus(prompt)
    points = lens_rows(smollm2, layers=frozenset({0, 14, 29}))
    reads = smollm2.run(stimulus, {p.hook: lambda r: r.clone() for p in points}).reads
    final = smollm2.run(stimulus, {}, logits=range(len(stimulus))).logits.double().log_softmax(-1)
    rows = torch.stack([smollm2.lens(reads[p.hook]).double().log_softmax(-1) for p in points])
    kl = (final.exp() * (final - rows)).sum(-1)
    np.testing.assert_allclose(scan.details["kl"][:-1], kl[:-1], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scan.details["entropy"], -(rows.exp() * rows).sum(-1), atol=1e-4)
    np.testing.assert_allclose(rows[-1], final, atol=2e-3)


@pytest.mark.model
def test_on_the_real_model_ordinary_text_is_ordinary(smollm2):
    """Sentences that are not in the reference text: percentiles in the middle, everywhere defined, also at position 0."""
    texts = (
        "The children walked slowly along the river and talked about the summer.",
        "She put the letter on the table and looked out of the window for a long time.",
        "A new library will open next year in the center of the town.",
    )
    scans = [scan_flair(smollm2, text, FlairConfig(template="ready")) for text in texts]
    assert all(np.isfinite(scan.details["score"]).all() for scan in scans)
    summaries = np.concatenate([scan.details["summary"] for scan in scans])
    assert 35 < summaries.mean() < 65
