"""The world model's corpus and its ideal observer, against enumeration, counting and Bayes' rule by hand."""

from itertools import pairwise, product

import numpy as np
import pytest

from nmri3d.phantoms.world_model import observer, weight
from nmri3d.phantoms.world_model.corpus import CONTAINED, Hierarchy, event_of, sample
from nmri3d.phantoms.world_model.lexicon import (
    CUES,
    FAINT,
    LEVELS,
    MARKS,
    N_CLASSES,
    TOKEN,
    VALUES,
    WORD_CLASS,
    WORDS,
    words_of,
)

HIERARCHY = Hierarchy()


def test_no_word_occurs_twice():
    assert len(set(WORDS)) == len(WORDS) == 95


def test_every_word_of_a_value_belongs_to_its_level():
    for level, values in enumerate(VALUES):
        for value in range(len(values)):
            assert (WORD_CLASS[words_of(level, value)] == level).all()


def test_probabilities_sum_to_one():
    np.testing.assert_allclose(HIERARCHY.transition.sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(HIERARCHY.follow.sum(-1), 1, atol=1e-12)
    for kind in range(N_CLASSES):
        np.testing.assert_allclose(HIERARCHY.emission[:, kind == WORD_CLASS].sum(-1), 1, atol=1e-12)


@pytest.mark.parametrize("level", range(4))
def test_a_word_is_as_strong_as_it_says(level):
    own, other = (HIERARCHY.paths[:, level] == value for value in (0, 1))
    ratio = np.log(HIERARCHY.emission[own][0] / HIERARCHY.emission[other][0])
    strengths = [HIERARCHY.strong[level], HIERARCHY.strong[level], HIERARCHY.medium, HIERARCHY.faint]
    np.testing.assert_allclose(ratio[words_of(level, 0)], strengths, atol=1e-9)
    np.testing.assert_allclose(ratio[words_of(level, 2)], 0, atol=1e-9)


@pytest.mark.parametrize("level", range(4))
def test_a_level_changes_by_its_hazard_where_those_above_stay(level):
    paths, moves = HIERARCHY.paths, HIERARCHY.transition[0]
    for old in (0, 17, 47):
        same_above = (paths[:, level + 1 :] == paths[old, level + 1 :]).all(1)
        changed = same_above & (paths[:, level] != paths[old, level])
        assert moves[old, changed].sum() / moves[old, same_above].sum() == pytest.approx(HIERARCHY.hazards[level])


def test_lower_values_are_contained_in_those_above():
    for scene, topic, place, society in HIERARCHY.paths:
        assert scene in CONTAINED[1][topic]
        assert topic in CONTAINED[2][place]
        assert place in CONTAINED[3][society]


def test_the_filter_equals_enumeration_of_all_histories():
    tokens = np.array([[TOKEN["coins"], TOKEN["."], TOKEN["team"]]])
    states = range(len(HIERARCHY.paths))
    events = event_of(tokens[0])
    totals = np.zeros((2, len(states)))
    joint = HIERARCHY.transition[events[0]].mean(0) * HIERARCHY.emission[:, tokens[0, 0]]
    for first, second in product(states, states):
        two = joint[first] * HIERARCHY.transition[events[1]][first, second]
        totals[0, second] += two
        totals[1] += two * HIERARCHY.transition[events[2]][second] * HIERARCHY.emission[:, tokens[0, 2]]
    observed = observer.observe(HIERARCHY, tokens)
    np.testing.assert_allclose(observed.belief[0, 2], totals[1] / totals[1].sum(), rtol=1e-9)
    follow = HIERARCHY.follow[WORD_CLASS[tokens[0, 1]], WORD_CLASS[tokens[0, 2]]]
    assert observed.next_log[0, 1] == pytest.approx(np.log(follow * totals[1].sum() / totals[0].sum()))


def test_next_words_are_what_the_filter_says_of_the_token_that_came():
    text = sample(HIERARCHY, 20, 30, 3)
    observed = observer.observe(HIERARCHY, text.tokens)
    chances = observer.next_words(HIERARCHY, observed.belief[:, 20], text.tokens[:, 20])
    np.testing.assert_allclose(chances[:, :-3].sum(1) + chances[:, -3:].sum(1), 1, atol=1e-9)
    word = event_of(text.tokens[:, 21]) == 0
    came = np.log(chances[np.arange(20), text.tokens[:, 21]])
    np.testing.assert_allclose(came[word], observed.next_log[word, 20], rtol=1e-9)


def test_the_observer_is_right_as_often_as_it_says():
    text = sample(HIERARCHY, 600, 80, 7)
    belief = observer.observe(HIERARCHY, text.tokens).belief
    for level in range(len(LEVELS)):
        posterior = observer.marginal(HIERARCHY, belief, level)
        right = posterior.argmax(-1) == HIERARCHY.paths[text.states][..., level]
        assert right.mean() == pytest.approx(posterior.max(-1).mean(), abs=0.015)


def test_an_observer_of_fewer_levels_keeps_what_it_knows_of_them():
    belief = observer.observe(HIERARCHY, sample(HIERARCHY, 5, 40, 1).tokens).belief[:, -1]
    for depth in (1, 2, 3):
        fewer = observer.without_levels(HIERARCHY, belief, depth)
        for level in range(depth):
            np.testing.assert_allclose(
                observer.marginal(HIERARCHY, fewer, level), observer.marginal(HIERARCHY, belief, level), atol=1e-12
            )
        assert np.abs(fewer - belief).max() > 0.01
    assert observer.without_levels(HIERARCHY, belief, 4) is belief


def test_the_same_seed_gives_the_same_text_and_another_seed_another():
    assert (sample(HIERARCHY, 4, 30, 5).tokens == sample(HIERARCHY, 4, 30, 5).tokens).all()
    assert (sample(HIERARCHY, 4, 30, 5).tokens != sample(HIERARCHY, 4, 30, 6).tokens).any()


def test_sampled_text_follows_the_table_of_classes():
    kinds = WORD_CLASS[sample(HIERARCHY, 400, 100, 9).tokens]
    for last in (1, 5, 9):
        after = kinds[:, 1:][kinds[:, :-1] == last]
        np.testing.assert_allclose(
            np.bincount(after, minlength=N_CLASSES) / len(after), HIERARCHY.follow[last], atol=0.04
        )


@pytest.mark.parametrize("level", range(4))
def test_evidence_speaks_of_one_level_only(level):
    text, old = weight.evidence_streams(HIERARCHY, level, 12, 3)
    evidence = text.tokens[:, weight.SETTLE :]
    assert (evidence[:, ::2] == TOKEN[CUES[level]]).all()
    new = HIERARCHY.paths[text.states[:, -1], level]
    assert (new != old).all()
    assert all((row == words_of(level, value)[FAINT]).all() for row, value in zip(evidence[:, 1::2], new, strict=True))
    assert not np.isin(text.tokens, [TOKEN[mark] for mark in MARKS]).any()
    others = [other for other in range(4) if other != level]
    before, after = (HIERARCHY.paths[text.states[:, step]][:, others] for step in (0, -1))
    assert (before == after).all()


def test_weight_counts_what_was_given_until_the_read_out_changes():
    def read(tokens, level):
        _, old = weight.evidence_streams(HIERARCHY, level, len(tokens), 50 + level)
        named = np.repeat(old[:, None], tokens.shape[1], 1)
        if level < 3:
            named[:, weight.SETTLE + 2 * (level + 1) + 1 :] += 1
        return named

    weights = weight.weigh(HIERARCHY, read, streams=5, seed=50)
    assert [found.nats for found in weights] == pytest.approx(
        [HIERARCHY.faint * (level + 2) for level in range(3)] + [HIERARCHY.faint * weight.LONGEST]
    )
    assert [found.tokens for found in weights] == [4, 6, 8, 2 * weight.LONGEST]
    assert [found.unmoved for found in weights] == [0, 0, 0, 1]


def test_the_ideal_observer_needs_twice_the_evidence_from_level_to_level():
    def read(tokens, level):
        return observer.marginal(HIERARCHY, observer.observe(HIERARCHY, tokens).belief, level).argmax(-1)

    nats = [found.nats for found in weight.weigh(HIERARCHY, read, streams=40)]
    assert all(above >= 2 * below for below, above in pairwise(nats))


def test_the_threshold_is_the_prior_against_one_other_value():
    paths, moves = HIERARCHY.paths, HIERARCHY.transition[0]
    for level in range(4):
        same_above = (paths[:, level + 1 :] == paths[0, level + 1 :]).all(1)
        stays = moves[0, same_above & (paths[:, level] == paths[0, level])].sum()
        other = next(path for path in paths[same_above] if path[level] != paths[0, level])
        goes = moves[0, same_above & (paths[:, level] == other[level])].sum()
        assert HIERARCHY.threshold(level) == pytest.approx(np.log(stays / goes))
