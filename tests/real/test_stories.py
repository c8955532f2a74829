"""The three stories on the real default model: what comes out, held to what is claimed of it in the docs."""

import json

import numpy as np
import pytest
import torch

from nmri3d import Edit, perturb
from nmri3d.bench import stories
from nmri3d.bench.stories import NAMES_PROMPT, stories_report

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def report(smollm2):
    before = smollm2.fingerprint()
    found = stories_report(smollm2)
    assert smollm2.fingerprint() == before
    return found


def test_exact_patching_finds_the_heads_that_name_the_receiver(report):
    names = report.names
    assert names.metric[0] == pytest.approx(6.12, abs=0.05)
    first, *_ = names.heads
    assert first == "blocks.23.attn.head_3"  # the name mover
    assert names.heads[first] < -6
    assert names.heads["blocks.29.attn.head_1"] < -2
    assert {head for head, change in names.heads.items() if change > 1.5} == {
        "blocks.29.attn.head_0",
        "blocks.24.attn.head_4",
    }  # these work against the answer


def test_ablating_them_lowers_the_answer(smollm2, report):
    names = report.names
    assert names.silenced == ("blocks.23.attn.head_3", "blocks.29.attn.head_1", "blocks.20.attn.head_0")
    assert names.metric[1] < names.metric[0] - 3
    assert names.probability[0] > 0.9
    assert names.probability[1] < 0.6
    # three other heads do nothing of the kind
    others = [Edit(f"blocks.{layer}.attn.head_{head}", "ablate") for layer, head in ((23, 6), (29, 4), (20, 7))]
    assert perturb(smollm2, NAMES_PROMPT, others).probability_after > 0.85


def test_backup_is_what_it_is(report):
    """Others make up for a part of the loss, and mostly by working against the answer less."""
    names = report.names
    assert names.direct_lost > 3
    assert 0.1 < names.backup_gained / names.direct_lost < 0.4
    assert names.opposing_gained > 0.8 * names.backup_gained
    before, after = names.risers["blocks.24.attn.head_4"]
    assert before < -0.5 < 0 < after + 0.1


def test_direct_effects_add_up_to_the_logit_difference(smollm2):
    stimulus = smollm2.stimulus(NAMES_PROMPT)
    metric, direct = stories._metric_and_direct_effects(smollm2, stimulus, [], stories.NAMES)
    assert np.nansum(direct) == pytest.approx(metric, abs=1e-3)  # an RMS norm, no biases, no softcap
    head = "blocks.23.attn.head_3"
    _, silenced = stories._metric_and_direct_effects(smollm2, stimulus, [Edit(head, "zero")], stories.NAMES)
    row = smollm2.components.row(head)
    assert abs(direct[row]) > 1
    assert silenced[row] == pytest.approx(0, abs=1e-4)
    below = smollm2.components.layer < 23
    np.testing.assert_allclose(silenced[below], direct[below], atol=1e-3)


def test_the_fact_lies_with_the_country_and_moves_to_the_end(report):
    capital, noise = report.capital, report.capital_noise
    assert capital.metric[0] > 5 > 0 > capital.metric[1]
    assert noise.metric[0] == pytest.approx(capital.metric[0])
    assert noise.metric[1] < 3
    for story in (capital, noise):
        assert story.note == ""
        assert story.marked == (" France",)
        assert 20 <= story.country_until <= 25
        assert story.last_from == story.country_until + 1
        layer, token, recovery = story.strongest["attn"]
        assert (layer, token) == (23, " is")
        assert recovery > 0.5
        layer, token, recovery = story.strongest["mlp"]
        assert (layer, token) == (0, " France")
        assert recovery > 0.9


def test_an_induction_head_is_found_and_silenced(report):
    induction = report.induction
    best, *_ = induction.scores
    assert best == "blocks.18.attn.head_6"
    assert induction.scores[best] > 0.7
    assert not set(induction.control_heads) & set(induction.scores)
    assert induction.second < induction.first - 8  # the second copy is foreseen
    assert induction.best > induction.second + 1
    assert induction.all_best > induction.second + 5
    assert induction.controls < induction.second + 2  # and other heads of the same layers do not matter as much


def test_the_loss_is_that_of_hugging_face(smollm2):
    stimulus, start = stories.repeated_tokens(smollm2, seed=3, length=12)
    assert start == 0
    found = stories._losses(smollm2, stimulus, [])
    ids = torch.from_numpy(stimulus.ids)[None]
    with torch.no_grad():
        wanted = float(smollm2.hf_model(input_ids=ids, labels=ids).loss)
    assert found.shape == (23,)
    assert found.mean() == pytest.approx(wanted, rel=1e-4)


def test_the_report_is_readable_and_plain_json(report):
    text = str(report)
    for word in ("blocks.23.attn.head_3", "France", "blocks.18.attn.head_6", "nats a token", "let go"):
        assert word in text
    assert max(map(len, text.splitlines())) < 200
    assert "nan" not in text
    record = json.loads(json.dumps(report.as_record(), allow_nan=False))
    assert record["names"]["metric"] == list(report.names.metric)


@pytest.mark.parametrize(("holds", "last"), [([1, 1, 0, 1], 1), ([0, 1], -1), ([1, 1], 1), ([1, 0, 0], 0)])
def test_the_end_of_an_unbroken_run(holds, last):
    assert stories._last_run(np.array(holds, dtype=bool)) == last
