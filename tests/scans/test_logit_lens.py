"""The logit-lens table on tiny models, against a plain top-k of every lens."""

import numpy as np
import pytest
import torch

from nmri3d.errors import Cancelled, InputError
from nmri3d.scans.logit_lens import logit_lens
from nmri3d.template.lens import lens_rows
from tests.models.backends import tiny_backend
from tests.models.tiny import FAMILIES, LAYERS, PROMPTS

PROMPT = PROMPTS[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_holds_the_likeliest_tokens_of_every_point(family):
    backend = tiny_backend(family)
    table = logit_lens(backend, PROMPT, k=4)
    stimulus = backend.stimulus(PROMPT)
    points = lens_rows(backend)
    assert table.tokens == stimulus.labels
    assert table.labels == tuple(f"{p.layer} {p.site}" for p in points)
    assert table.layers.tolist() == [p.layer for p in points]
    reads = backend.run(stimulus, {p.hook: lambda r: r.clone() for p in points}).reads
    log_q = torch.stack([backend.lens(reads[p.hook]).double().log_softmax(-1) for p in points])
    best, ids = log_q.topk(4, dim=-1)
    np.testing.assert_allclose(table.probabilities, best.exp(), rtol=1e-4)
    np.testing.assert_array_equal(table.token_ids, ids)
    assert table.texts.shape == (len(points), len(stimulus), 4)
    assert table.texts[1, 2, 3] == backend.token_text(int(ids[1, 2, 3]))
    np.testing.assert_allclose(table.entropy, -(log_q.exp() * log_q).sum(-1), atol=1e-4)
    ids = torch.from_numpy(stimulus.ids)[None]
    with torch.no_grad():
        final = backend.hf_model(input_ids=ids).logits[0].double().log_softmax(-1)
    np.testing.assert_array_equal(table.token_ids[-1, :, 0], final.argmax(-1))
    np.testing.assert_allclose(table.kl[:-1], (final.exp() * (final - log_q)).sum(-1)[:-1], atol=1e-4)
    assert np.isnan(table.kl[-1]).all()


def test_layers_and_sites_choose_rows():
    backend = tiny_backend("gpt2")
    table = logit_lens(backend, PROMPT, k=1, layers=[-1, 0], sites=("mlp",))
    assert table.labels == ("0 mlp", f"{LAYERS - 1} mlp")
    whole = logit_lens(backend, PROMPT, k=1)
    np.testing.assert_array_equal(table.token_ids, whole.token_ids[[1, 2 * LAYERS - 1]])


def test_all_of_the_vocabulary_adds_up_to_one():
    table = logit_lens(tiny_backend("gemma2"), "a", k=384)
    np.testing.assert_allclose(table.probabilities.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is a whole number from 1 to 384"),
        ({"k": 385}, "k is a whole number from 1 to 384"),
        ({"k": True}, "k is a whole number"),
        ({"k": 2.0}, "k is a whole number"),
        ({"layers": [7]}, "layer 7 is outside this model"),
        ({"layers": []}, "layers is an empty list"),
        ({"sites": "mlp"}, "sites is a list"),
        ({"sites": ("resid",)}, "a site is one of attn, mlp"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(options, message):
    with pytest.raises(InputError, match=message):
        logit_lens(tiny_backend("gpt2"), PROMPT, **options)


def test_it_can_be_withdrawn():
    def stop(share, what):
        if share > 0.5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        logit_lens(tiny_backend("gpt2"), PROMPT, progress=stop)
