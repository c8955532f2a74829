"""The template against the same numbers written out plainly, for every family; its percentiles; its files."""

import numpy as np
import pytest
import torch

from nmri3d.errors import AlignmentError, Cancelled, InputError
from nmri3d.template import access
from nmri3d.template.access import available, open_template, save_template, template_of
from nmri3d.template.build import SAMPLED, build_template
from nmri3d.template.examples import moving_passages
from nmri3d.template.lens import lens_rows
from nmri3d.template.reference import passages
from nmri3d.template.template import MIN_SAMPLES, LensReference, Template, stratum_of
from tests.models.backends import tiny_backend
from tests.models.tiny import BOS_FAMILIES, CONTEXT, D_MODEL, FAMILIES, LAYERS

families = pytest.mark.parametrize("family", FAMILIES)
TEXTS = passages()[:40]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache, and none sees what another remembered."""
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(access, "_memory", type(access._memory)())


@families
def test_moments_equal_those_of_all_writes_at_once(family):
    backend = tiny_backend(family)
    template = build_template(backend, texts=TEXTS)
    plan = backend.write_plan("whole", frozenset(range(LAYERS)))
    writes, residuals, neurons = [], [], []
    for text in TEXTS:
        stimulus = backend.stimulus(text)
        sites = {"blocks.2.hook_resid_pre": _copy, "hook_resid_final": _copy, "blocks.1.mlp.hook_post": _copy}
        run = backend.run(stimulus, {**plan.reads, **sites})
        writes.append(plan.collect(run).astype(np.float64))
        residuals.append(np.stack([run.reads["blocks.2.hook_resid_pre"], run.reads["hook_resid_final"]], axis=1)[1:])
        neurons.append(run.reads["blocks.1.mlp.hook_post"][1:].numpy())
    first = np.stack([w[0] for w in writes])
    later = np.concatenate([w[1:] for w in writes])
    scale = np.nanmax(np.abs(later))
    np.testing.assert_allclose(template.mean, later.mean(axis=0), atol=1e-5 * scale)
    np.testing.assert_allclose(template.std, later.std(axis=0), atol=1e-5 * scale)
    np.testing.assert_allclose(template.mean_first, first.mean(axis=0), atol=1e-5 * scale)
    norms, first_norms = np.linalg.norm(later, axis=-1), np.linalg.norm(first, axis=-1)
    np.testing.assert_allclose(template.fmri_mean, norms.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(template.fmri_std, norms.std(axis=0), atol=1e-5 * scale)
    np.testing.assert_allclose(template.fmri_mean_first, first_norms.mean(axis=0), rtol=1e-5)
    stream = np.concatenate(residuals)
    np.testing.assert_allclose(template.residual_std[[4, 6]], stream.std(axis=0), rtol=1e-4)
    assert template.residual_std.shape == (2 * LAYERS + 1, D_MODEL)
    assert np.isnan(template.residual_std[1::2]).all() == backend.info.parallel_blocks
    layer = backend.neurons.rows(layer=1)
    np.testing.assert_allclose(template.neuron_mean[layer], np.concatenate(neurons).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(template.neuron_std[layer], np.concatenate(neurons).std(axis=0), atol=1e-5)
    embed = backend.components.row("embed")
    assert template.embedding_std == pytest.approx(later[:, embed].std(), rel=1e-5)
    assert template.n_tokens == sum(map(len, writes))
    assert np.isnan(template.mean[backend.components.row("unembed")]).all()


@families
def test_what_never_changes_has_no_spread(family):
    """The bias of an attention output is the same everywhere, and so is a BOS at position 0."""
    backend = tiny_backend(family)
    template = build_template(backend, texts=TEXTS)
    biases = backend.components.rows("attn_bias")
    if not backend.info.post_norm:
        np.testing.assert_array_equal(template.std[biases], 0)
    writing = backend.components.kind != "unembed"
    constant = template.fmri_std_first[writing] <= 1e-4 * template.fmri_mean_first[writing]
    heads = backend.components.kind[writing] == "head"
    assert constant[heads].all() == (family in BOS_FAMILIES)
    z = template.fmri_z(template.fmri_mean[None] + template.fmri_std[None], np.array([3]))
    heads = backend.components.kind == "head"
    np.testing.assert_allclose(z[0, heads], 1, rtol=1e-3)
    assert np.isnan(template.fmri_z(template.fmri_mean_first[None], np.array([0]))[0, heads]).all() == (
        family in BOS_FAMILIES
    )


@families
def test_the_lens_reference_equals_plain_softmaxes(family):
    backend = tiny_backend(family)
    template = build_template(backend, texts=TEXTS)
    rows = lens_rows(backend)
    logs, of_passage = [], []
    for text in TEXTS:
        stimulus = backend.stimulus(text)
        ids = torch.from_numpy(stimulus.ids)[None]
        with torch.no_grad():
            logs.append(backend.hf_model(input_ids=ids).logits[0].double().log_softmax(-1))
        of_passage.append(backend.run(stimulus, {row.hook: _copy for row in rows}).reads)
    later = [log[1:].exp() for log in logs]
    u = torch.cat(later).mean(dim=0)
    np.testing.assert_allclose(template.final_distribution, u, rtol=1e-4)
    lens = template.lens
    assert lens is not None
    for sample in range(0, len(lens.passage), 7):
        passage, position = lens.passage[sample], lens.position[sample]
        others = torch.cat([p for k, p in enumerate(later) if k != passage]).mean(dim=0)
        final = logs[passage][position]
        assert lens.rarity[sample] == pytest.approx(float(-(final.exp() * others.log()).sum()), abs=1e-4)
        for row, point in enumerate(rows):
            q = backend.lens(of_passage[passage][point.hook][position]).double().log_softmax(-1)
            assert lens.entropy[row, sample] == pytest.approx(float(-(q.exp() * q).sum()), abs=1e-4)
            if not point.is_last:
                kl = float((final.exp() * (final - q)).sum())
                assert lens.kl[row, sample] == pytest.approx(kl, abs=1e-4)
    assert np.isnan(lens.kl[-1]).all()
    strata = stratum_of(lens.position)
    assert [int((strata == s).sum()) for s in range(3)] == [len(TEXTS) * n for n in SAMPLED]


def test_percentiles_are_ranks_of_residuals_within_a_stratum():
    random = np.random.default_rng(0)
    n = 400
    rarity = random.uniform(2, 12, n).astype(np.float32)
    position = np.repeat([0, 2, 9], [40, 160, 200]).astype(np.int32)
    noise = random.standard_normal((2, n))
    kl = (np.array([[3.0], [-1.0]]) * rarity + 5 + noise).astype(np.float32)
    kl[:, position == 2] += 100  # another stratum: must not matter
    reference = LensReference(kl, kl[::-1].copy(), rarity, position, np.zeros(n, np.int32))
    chosen = position == 9
    x, y = rarity[chosen].astype(float), kl[0, chosen].astype(float)
    slope, intercept = np.polyfit(x, y, 1)
    np.testing.assert_allclose(reference.line("kl", 2)[0], [intercept, slope], rtol=1e-4)
    residuals = y - intercept - slope * x
    new_kl, new_rarity = np.float32(30.0), np.float32(8.0)
    expected = 100 * np.mean(residuals < 30 - intercept - slope * 8)
    found = reference.percentile("kl", [0], np.array([[new_kl]]), np.array([new_rarity]), np.array([11]))
    assert found[0, 0] == pytest.approx(expected, abs=1e-3)
    # rows are picked by number, statistics kept apart, and ordinary points rank evenly
    np.testing.assert_allclose(reference.line("entropy", 2)[1], [intercept, slope], rtol=1e-4)
    own = reference.percentile("kl", [1, 0], kl[::-1][:, chosen], rarity[chosen], position[chosen])
    np.testing.assert_allclose(np.sort(own[1]), 100 * (np.arange(200) + 0.5) / 200, atol=1e-3)


def test_a_stratum_that_is_small_or_all_the_same_has_no_percentiles():
    random = np.random.default_rng(1)
    n = MIN_SAMPLES - 1
    position = np.repeat([0, 2, 9], [60, n, 60]).astype(np.int32)
    kl = random.standard_normal((1, len(position))).astype(np.float32)
    rarity = random.uniform(2, 12, len(position)).astype(np.float32)
    kl[:, :60], rarity[:60] = 7.0 + 1e-5 * kl[:, :60], 3.0
    reference = LensReference(kl, kl, rarity, position, np.zeros(len(position), np.int32))
    found = reference.percentile("kl", [0], np.zeros((1, 3)), np.full(3, 5.0), np.array([0, 2, 9]))
    assert np.isnan(found[0]).tolist() == [True, True, False]
    nan = reference.percentile("kl", [0], np.array([[np.nan]]), np.array([5.0]), np.array([9]))
    assert np.isnan(nan).all()


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_moving_passages_are_those_with_the_largest_write(family):
    backend = tiny_backend(family)
    template = build_template(backend, texts=TEXTS)
    name = "blocks.1.attn.head_2"
    row = backend.components.row(name)
    plan = backend.write_plan("l2_norm", frozenset({1}))
    largest = []
    for text in TEXTS:
        norms = plan.collect(backend.run(backend.stimulus(text), plan.reads))[1:, row]
        largest.append((float(norms.max()), int(norms.argmax()) + 1))
    expected = sorted(range(len(TEXTS)), key=lambda k: -largest[k][0])[:5]
    found = moving_passages(backend, template, name)
    assert [example.passage for example in found] == expected
    for example in found:
        assert (example.value, example.position) == (
            pytest.approx(largest[example.passage][0], rel=1e-4),
            largest[example.passage][1],
        )
        assert example.token == backend.stimulus(example.text).labels[example.position]
        assert example.ratio == pytest.approx(example.value / template.fmri_mean[row])
    assert len(moving_passages(backend, template, name, k=2)) == 2
    assert moving_passages(backend, template, "unembed") == []
    with pytest.raises(InputError, match="no component 'nonsense'"):
        moving_passages(backend, template, "nonsense")


def test_a_passage_longer_than_the_context_is_cut_at_a_word():
    backend = tiny_backend("gpt2")
    long = "word " * (2 * CONTEXT)
    template = build_template(backend, texts=[*TEXTS[:3], long])
    short = sum(len(backend.stimulus(text)) for text in TEXTS[:3])
    assert CONTEXT / 2 < template.n_tokens - short <= CONTEXT


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_passages(monkeypatch):
    """Building runs the first passages only, and says how often it was called."""
    calls = []

    def build(model, *, progress):
        calls.append(model.info.model_id)
        return build_template(model, texts=TEXTS, progress=progress)

    monkeypatch.setattr(access, "build_template", build)
    return calls


def test_a_template_is_built_once_kept_and_found_again(few_passages, monkeypatch):
    backend = tiny_backend("llama")
    assert not available(backend)
    built = template_of(backend)
    assert available(backend)
    assert template_of(backend) is built
    monkeypatch.setattr(access, "_memory", type(access._memory)())  # another process
    again = template_of(backend)
    assert few_passages == ["tiny-llama"]
    assert again is not built
    for name, value in vars(built).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
            assert not getattr(again, name).flags.writeable
    np.testing.assert_array_equal(again.lens.kl, built.lens.kl)
    assert again.components == backend.components
    assert (again.embedding_std, again.n_tokens) == (built.embedding_std, built.n_tokens)


def test_other_weights_have_another_template(few_passages):
    one, other = tiny_backend("llama"), tiny_backend("mistral")
    assert template_of(one).fingerprint != template_of(other).fingerprint
    assert few_passages == ["tiny-llama", "tiny-mistral"]
    assert template_of(one).model_id == "tiny-llama"


@pytest.mark.parametrize("damage", ["truncated", "empty", "other", "version", "foreign"])
def test_a_damaged_or_foreign_file_is_built_anew(few_passages, monkeypatch, damage):
    backend = tiny_backend("gpt2")
    template_of(backend)
    [path] = access.cache_folder().glob("*.npz")
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        np.savez(path, meta=np.frombuffer(b'{"format": "nmri3d-scan-1"}', dtype=np.uint8))
    elif damage == "foreign":
        save_template(build_template(tiny_backend("qwen2"), texts=TEXTS[:3]), path)
    else:
        monkeypatch.setattr(access, "VERSION", access.VERSION + 1)
    monkeypatch.setattr(access, "_memory", type(access._memory)())
    assert not available(backend)
    template_of(backend)
    assert len(few_passages) == 2
    monkeypatch.setattr(access, "_memory", type(access._memory)())
    assert available(backend)


def test_an_open_of_a_half_template_is_refused_in_words(tmp_path):
    template = build_template(tiny_backend("gpt2"), texts=TEXTS[:3])
    path = save_template(template, tmp_path / "half.npz")
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "std"}
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="is not a template, or it is damaged"):
        open_template(path)


def test_cancelling_keeps_nothing(monkeypatch):
    backend = tiny_backend("gpt2")

    def stop(share, what):
        if share > 0.3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        template_of(backend, stop)
    assert not available(backend)
    assert not list(access.cache_folder().glob("*"))


def test_progress_runs_from_0_to_1(monkeypatch):
    shares = []
    build_template(tiny_backend("gpt2"), texts=TEXTS[:6], progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_cache_that_cannot_be_written_warns_and_answers(few_passages, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("NMRI3D_CACHE", str(blocked))
    with pytest.warns(UserWarning, match="cannot be kept .* set NMRI3D_CACHE"):
        assert template_of(tiny_backend("gpt2")).n_tokens > 0


def test_arrays_that_do_not_belong_together_are_refused():
    template = build_template(tiny_backend("gpt2"), texts=TEXTS[:3])
    fields = vars(template) | {"std": template.std[:-1]}
    with pytest.raises(AlignmentError, match="std of a template must be"):
        Template(**fields)


# -- the text ----------------------------------------------------------------------------------------------------------


def test_the_reference_text_is_many_varied_passages():
    texts = passages()
    assert len(texts) >= 200
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for text in texts)
    first = [text.split()[0] for text in texts]
    assert len(set(first)) > len(texts) / 2
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) <= 3
    assert max(lengths) >= 40


def test_no_question_of_the_evaluation_is_in_the_reference_text():
    from nmri3d.bench.questions import QUESTIONS

    assert not [q.prompt for q in QUESTIONS for text in passages() if q.prompt in text]


# -- the shipped one -----------------------------------------------------------------------------------------------------


def test_the_shipped_template_is_small_and_of_this_version():
    path = access.shipped_path()
    assert path is not None
    assert path.stat().st_size < 4_000_000
    template = open_template(path)
    assert template.model_id == "smollm2-135m"
    assert template.lens is not None
    assert template.lens.passage.max() == len(passages()) - 1
    assert template.final_distribution.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.model
def test_the_shipped_template_is_used_and_equals_fresh_passes(smollm2, monkeypatch):
    assert available(smollm2)
    template = template_of(smollm2)
    lens = template.lens
    rows = lens_rows(smollm2)
    plan = smollm2.write_plan("l2_norm", frozenset({7, 20}))
    for passage in (3, 60, 150):
        stimulus = smollm2.stimulus(passages()[passage])
        run = smollm2.run(stimulus, {**plan.reads, **{row.hook: _copy for row in rows}, "hook_resid_final": _copy})
        norms = plan.collect(run)[1:]
        for component in np.flatnonzero((template.top_passage == passage).any(axis=1)):
            if smollm2.components.layer[component] in (7, 20):
                value = template.top_value[component][template.top_passage[component] == passage]
                assert norms[:, component].max() == pytest.approx(float(value[0]), rel=1e-3)
        for sample in np.flatnonzero(lens.passage == passage):
            position = lens.position[sample]
            final = smollm2.lens(run.reads["hook_resid_final"][position]).double().log_softmax(-1)
            for row in (0, 21, 50):
                q = smollm2.lens(run.reads[rows[row].hook][position]).double().log_softmax(-1)
                kl = float((final.exp() * (final - q)).sum())
                assert lens.kl[row, sample] == pytest.approx(kl, rel=1e-3)
    # position 0 is kept apart: this model parks a write there that is two hundred times the usual
    mlp = smollm2.components.row("blocks.11.mlp")
    assert np.linalg.norm(template.mean_first[mlp]) > 200 * np.linalg.norm(template.mean[mlp])


def _copy(tensor):
    return tensor.float().clone()
