"""The metric against logits that Hugging Face computes."""

import numpy as np
import pytest
import torch

from nmri3d.errors import InputError
from nmri3d.perturbation.metric import logit_difference, require_same_length, token_of
from tests.perturbation.cases import CLEAN, CORRUPT, both, families, top_two


@families
@pytest.mark.parametrize("position", [-1, 0, 7])
def test_it_is_the_models_own_logit_difference(family, position):
    backend, plain = both(family)
    stimulus = backend.stimulus(CLEAN)
    recording = backend.record(stimulus)
    with torch.no_grad():
        logits = plain.logits(stimulus.ids)[position].numpy()
        before_softcap = plain.logits(stimulus.ids, before_softcap=True)[position].numpy()
    scale = float(np.abs(logits).max())
    metric = logit_difference(backend, recording.at(-1), None, None, position)
    target, foil = top_two(logits)
    assert (metric.target, metric.foil) == (target, foil)
    assert metric.position == position % len(stimulus)
    assert metric.of(recording) == pytest.approx(logits[target] - logits[foil], abs=1e-5 * scale)
    assert metric.of_linear(recording) == pytest.approx(
        before_softcap[target] - before_softcap[foil], abs=1e-5 * float(np.abs(before_softcap).max())
    )
    if family == "gemma2":
        assert abs(metric.of(recording) - metric.of_linear(recording)) > 1e-3
    chosen = logit_difference(backend, recording.at(-1), 40, 77, position)
    assert chosen.of(recording) == pytest.approx(logits[40] - logits[77], abs=1e-5 * scale)
    assert chosen.of_rows(recording.at(-1)[[position, 1]])[0] == pytest.approx(chosen.of(recording), abs=1e-5 * scale)


def test_the_default_foil_makes_way_for_a_chosen_target_and_the_other_way_round():
    backend, plain = both("llama")
    stimulus = backend.stimulus(CLEAN)
    final = backend.record(stimulus).at(-1)
    with torch.no_grad():
        first, second, third = plain.logits(stimulus.ids)[-1].argsort(descending=True)[:3].tolist()
    assert (m := logit_difference(backend, final, second, None, -1)).foil == first, m
    assert (m := logit_difference(backend, final, None, first, -1)).target == second, m
    assert (m := logit_difference(backend, final, third, None, -1)).foil == first, m


def test_tokens_are_texts_or_ids_and_anything_else_is_refused():
    backend, _ = both("llama")
    final = backend.record(backend.stimulus(CLEAN)).at(-1)
    assert (
        token_of(backend, " Mary")
        == backend.token_id(" Mary")
        == token_of(backend, np.int64(backend.token_id(" Mary")))
    )
    for token in (True, -1, backend.info.d_vocab, 1.0, None):
        with pytest.raises(InputError, match="a token is a text"):
            token_of(backend, token)
    with pytest.raises(InputError, match=r"is \d tokens"):
        token_of(backend, " Mary and John")
    with pytest.raises(InputError, match="the same token"):
        logit_difference(backend, final, 5, 5, -1)
    for position in (99, -99):
        with pytest.raises(InputError, match=f"position {position} is outside the prompt"):
            logit_difference(backend, final, None, None, position)
    with pytest.raises(InputError, match="a whole number"):
        logit_difference(backend, final, None, None, 1.5)


def test_prompts_of_unequal_length_and_equal_prompts_are_refused():
    backend, _ = both("llama")
    clean = backend.stimulus(CLEAN)
    with pytest.raises(InputError, match=r"they have 16 and 17 .*' gave'"):
        require_same_length(backend, clean, backend.stimulus(CLEAN + "4"))
    with pytest.raises(InputError, match="are the same"):
        require_same_length(backend, clean, clean)
    require_same_length(backend, clean, backend.stimulus(CORRUPT))
