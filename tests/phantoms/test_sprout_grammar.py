"""SPROUT's grammar and lexicon: the ground truth that everything else is measured against."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.errors import InputError
from nmri3d.phantoms.calibration import auroc
from nmri3d.phantoms.sprout.grammar import follow, options, sentence, states
from nmri3d.phantoms.sprout.lexicon import (
    ANIMATE,
    INANIMATE_VERBS,
    NEVER_PLURAL,
    NEVER_PROGRESSIVE,
    NOUNS,
    PREPOSITIONS,
    TRANSITIVE_VERBS,
    VERBS,
    VOCABULARY,
    read,
    write,
)
from nmri3d.phantoms.sprout.prefixes import prefixes_of
from nmri3d.phantoms.sprout.prefixes import test_prefixes as held_out_prefixes
from nmri3d.phantoms.sprout.probes import probes


def drawn(seed: int, train: bool, count: int) -> list[list[str]]:
    random = np.random.default_rng(seed)
    return [sentence(random, train) for _ in range(count)]


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_written_reads_back_and_every_distribution_sums_to_one(seed: int, train: bool) -> None:
    [tokens] = drawn(seed, train, 1)
    assert read(write(tokens)) == tokens
    assert read(" ".join(tokens)) == tokens
    for state in states(tokens)[:-1]:
        assert sum(options(state, train).values()) == pytest.approx(1.0)
        assert set(options(state, train)) <= set(options(state, train=False))


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        assert set(read(text)) <= set(VOCABULARY)
    except InputError as error:
        assert "does not know the word" in str(error)


def test_typed_forms_are_the_same_tokens() -> None:
    assert (
        read("now the cats are")
        == read("now the cat s are")
        == read("Now the cat +s are")
        == [*("now", "the", "cat", "+s", "are")]
    )
    with pytest.raises(InputError, match="cat"):
        read("the catz")


def test_training_never_shows_what_is_held_out_and_the_whole_grammar_does() -> None:
    seen = {(a, b) for tokens in drawn(0, True, 1_500) for a, b in pairwise(tokens)}
    whole = {(a, b) for tokens in drawn(0, False, 1_500) for a, b in pairwise(tokens)}
    plurals, progressives = {(noun, "+s") for noun in NEVER_PLURAL}, {(verb, "+ing") for verb in NEVER_PROGRESSIVE}
    assert not seen & (plurals | progressives)
    assert plurals <= whole
    assert progressives <= whole
    assert {noun for noun, suffix in seen if suffix == "+s" and noun in NOUNS} == set(NOUNS) - NEVER_PLURAL
    assert not any(state.unheard for tokens in drawn(1, True, 500) for state in states(tokens))
    assert any(state.unheard for tokens in drawn(1, False, 100) for state in states(tokens))


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("now the cats near this dog", {"is": 0.0, "are": 1.0}),
        ("now the cat near these dogs", {"is": 1.0}),
        ("then the cat near these dogs", {"was": 1.0}),
        ("often the boy near the dog walk", {"+s": 1.0}),
        ("often the boys near this dog walk", {".": 1.0}),
        ("yesterday this lamp glow", {"+ed": 1.0}),
        ("now these cat", {"+s": 1.0}),
        ("now the cat", {"+s": 0.5, "near": 0.125, "behind": 0.125, "is": 0.25}),
    ],
)
def test_the_ideal_distribution_by_hand(text: str, following: dict[str, float]) -> None:
    ideal = options(states(read(text))[-1], train=False)
    assert ideal == pytest.approx({token: p for token, p in following.items() if p})


def test_verbs_agree_with_their_subject_in_animacy() -> None:
    for tokens in drawn(3, False, 300):
        state = states(tokens)[-1]
        assert (state.head in ANIMATE) == (state.verb not in INANIMATE_VERBS)
        assert len(prefixes_of(tokens)) == len(tokens) - 1
        assert (state.role == "object") == (state.verb in TRANSITIVE_VERBS)


def test_a_token_that_may_not_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="may not follow"):
        follow(states(["now", "these", "cat"])[-1], "is")


def unheard_pair(tokens: tuple[str, ...]) -> bool:
    """By hand: the head is the first noun, the phrase's noun the first behind a preposition, the verb the first verb."""
    nouns = [(place, token) for place, token in enumerate(tokens) if token in NOUNS]
    verb = next((token for token in tokens if token in VERBS), None)
    preposition = next((place for place, token in enumerate(tokens) if token in PREPOSITIONS), len(tokens))
    phrase = next((token for place, token in nouns if place > preposition), None)
    if not nouns:
        return False
    head = NOUNS.index(nouns[0][1])
    with_verb = verb is not None and (head + VERBS.index(verb)) % 5 == 0
    return with_verb or (phrase is not None and (head + 2 * NOUNS.index(phrase)) % 5 == 0)


def test_test_prefixes_are_split_by_what_training_never_shows() -> None:
    found = held_out_prefixes(0, 300)
    splits = set()
    for prefix in found:
        whole = (*prefix.tokens, prefix.following)
        form = any(
            (b == "+s" and a in NEVER_PLURAL) or (b == "+ing" and a in NEVER_PROGRESSIVE) for a, b in pairwise(whole)
        )
        assert prefix.split == ("word" if form else "combination" if unheard_pair(whole) else "seen"), whole
        splits.add(prefix.split)
    assert splits == {"seen", "combination", "word"}


def test_a_pair_is_not_forgotten_in_the_object() -> None:
    """A held-out noun of the phrase still counts when the object has a noun of its own."""
    held_out = read("now the cat near this cat is help ing the dog")
    assert [state.unheard for state in states(held_out)] == [False] * 6 + [True] * 6
    assert not any(state.unheard for state in states(read("now the cat near this dog is help ing the cat")))


def test_probe_sets_share_no_prefix_and_hide_the_number_from_everything_but_the_suffix() -> None:
    sets = {which: probes(which, 200) for which in ("train", "unit", "unseen", "calibration")}
    for which, found in sets.items():
        heads = {probe.tokens[2] for probe in found}
        assert (heads <= NEVER_PLURAL) == (which in ("unseen", "calibration"))
        assert all(probe.plural == (probe.tokens[3] == "+s") for probe in found)
        last = np.array([probe.tokens[-1] == "+s" for probe in found], float)
        assert 0.4 < auroc(last, np.array([probe.plural for probe in found])) < 0.6
    texts = [{probe.tokens for probe in found} for found in sets.values()]
    assert sum(map(len, texts)) == len(set.union(*texts))
