"""The shipped induction network: its figures and answer key, measured anew on other texts."""

import json

import pytest

from nmri3d.phantoms.induction.calibration import cases
from nmri3d.phantoms.induction.measuring import (
    NAMED,
    accuracy,
    accuracy_unread,
    attention_scores,
    held_out_texts,
    scores_alike,
)
from nmri3d.phantoms.induction.task import WORDS, held_out_lags, trained_lags
from nmri3d.phantoms.registry import folder_of, load_phantom, shipped

OTHER_SEED = 5_000_011


@pytest.fixture(scope="module")
def network():
    return shipped("induction")


@pytest.fixture(scope="module")
def backend():
    return load_phantom("induction")


@pytest.fixture(scope="module")
def figures():
    return json.loads((folder_of("induction") / "metrics.json").read_text())["figures"]


@pytest.fixture(scope="module")
def strange(network):
    return held_out_texts(network, lags=held_out_lags(), seed=OTHER_SEED)


def heads(ids):
    return [(int(one.split(".")[1]), int(one.rsplit("_", 1)[1])) for one in ids]


def test_the_figures_reach_what_the_issue_asks_and_are_those_of_the_weights(network, figures, strange):
    assert figures["accuracy"] > 0.95
    assert figures["accuracy on lags never trained"] > 0.95
    usual = held_out_texts(network, lags=trained_lags(), seed=OTHER_SEED)
    assert accuracy(network, usual) == pytest.approx(figures["accuracy"], abs=0.02)
    assert accuracy(network, strange) == pytest.approx(figures["accuracy on lags never trained"], abs=0.02)


def test_the_answer_key_holds_on_other_texts(network, strange):
    key = {truth.name: heads(truth.components) for truth in network.answer_key()}
    assert set(key) == {"previous-token heads", "induction heads", "key composition", "induction circuit"}
    scores, alike = attention_scores(network, strange), scores_alike(strange)
    everyone = [(layer, head) for layer in range(2) for head in range(network.config.n_heads)]
    for number, (name, block) in enumerate((("previous-token heads", 0), ("induction heads", 1))):
        leading = [head for head in everyone if head[0] == block and scores[number][head] >= NAMED * alike[number]]
        assert leading == key[name]
    circuit = key["induction circuit"]
    others = [head for head in everyone if head not in circuit]
    whole = accuracy(network, strange)
    assert accuracy(network, strange, circuit) < 0.1
    assert accuracy(network, strange, others) > 0.5
    by_slot = {
        slot: accuracy_unread(network, strange, key["previous-token heads"], key["induction heads"], slot)
        for slot in "qkv"
    }
    assert by_slot["k"] < 0.3
    assert min(by_slot["q"], by_slot["v"]) > whole - 0.2
    measured = [whole, *(by_slot[slot] for slot in "kqv")]
    measured += [accuracy(network, strange, circuit), accuracy(network, strange, others)]
    assert network.accuracies.numpy() == pytest.approx(measured, abs=0.03)


def test_the_network_goes_on_as_a_reader_would(backend):
    for prompt, answer in zip(backend.examples, (" pear", " ring", " hat", " pen"), strict=True):
        logits = backend.run(backend.stimulus(prompt), {}, logits=[-1]).logits[0]
        assert backend.token_text(int(logits.argmax())) == answer


def test_cases_are_texts_of_lags_never_trained():
    for case in cases():
        words, other = case.clean.split(), case.corrupt.split()
        lag = len(words) - words[::-1].index(words[len(words) - 1]) - 1 - words.index(words[-1])
        assert lag in held_out_lags()
        assert words[lag:] == words[: len(words) - lag]
        assert words[len(words) - lag] == case.target
        assert len(set(other)) == len(other) == len(words)
        assert case.foil not in {*words, *other}
        assert {*words, *other} <= set(WORDS)
