"""BioHama's language and tasks: the interpreter against other computations, and that what is held out is held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.errors import InputError
from nmri3d.phantoms.biohama.language import (
    LIST_OPERATIONS,
    LONGEST,
    OPERATIONS,
    OUTPUTS,
    SYMBOLS,
    WITH_SYMBOL,
    interpret,
    read,
    rule_of,
    write,
)
from nmri3d.phantoms.biohama.tasks import (
    FAMILIES,
    HELD_OUT,
    LONGER,
    SPLITS,
    TRAINING,
    batch,
    length_of,
    pairs_of,
    programs,
)

with_symbol = st.tuples(st.sampled_from(WITH_SYMBOL), st.sampled_from(SYMBOLS))
without = st.tuples(st.sampled_from(sorted(set(OPERATIONS) - set(WITH_SYMBOL))), st.none())
steps = st.lists(with_symbol | without, min_size=1, max_size=LONGEST).map(tuple)


@given(steps)
def test_reading_is_the_inverse_of_writing(program):
    assert read(write(program)) == program


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        assert read(text)
    except InputError as error:
        assert len(str(error)) > 20


def test_a_symbol_alone_repeats_the_operation_before_it():
    assert read("put c a; reverse\nTurn") == (("put", "c"), ("put", "a"), ("reverse", None), ("turn", None))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one"),
        ("a", "no operation"),
        ("put", "ends"),
        ("put x", "needs a symbol"),
        ("reverse a", "no operation"),
        ("dance", "there is no operation"),
        ("turn " * (LONGEST + 1), "at most"),
    ],
)
def test_what_is_no_program_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        read(text)


@given(
    st.lists(st.sampled_from(SYMBOLS), min_size=2, max_size=6), st.lists(st.sampled_from(LIST_OPERATIONS), max_size=8)
)
def test_list_operations_are_these_permutations_and_the_ring(symbols, operations):
    n = len(symbols)
    moves = {
        "reverse": np.arange(n)[::-1],
        "turn": np.roll(np.arange(n), -1),
        "swap": np.r_[1, 0, 2:n],
        "shift": np.arange(n),
    }
    listed = np.array([SYMBOLS.index(symbol) for symbol in symbols])
    expected = []
    for operation in operations:
        listed = (listed[moves[operation]] + (operation == "shift")) % len(SYMBOLS)
        expected.append(1 + int(listed[0]))
    program = (*(("put", symbol) for symbol in symbols), *((operation, None) for operation in operations))
    assert interpret(program)[n:] == tuple(expected)


def answers(text: str) -> str:
    return " ".join("." if answer is None else OUTPUTS[answer] for answer in interpret(read(text)))


def test_chains_and_rules_by_hand():
    assert answers("visit a d, lift, visit b a, at b, hop, hop, back, hop, hop") == ". . . . . . a d a d ."
    assert answers("see a, red, see c, see b, blue, see h, gold, see d, red, see e") == ". . - c . a . h . b"
    assert rule_of(read("red, see a, blue, see b, put c")) == ("red", "see/red", "blue", "see/blue", "put")


def test_zig_means_what_it_is_given():
    program = read("put a b, zig")
    assert interpret(program)[-1] is None
    assert interpret(program, zig="reverse")[-1] == interpret(read("put a b, reverse"))[-1]
    assert OUTPUTS[interpret(program, zig="mirror")[-1]] == "h"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_held_out_is_never_trained_on(family):
    drawn = {split: programs(family, split, 300, np.random.default_rng(1)) for split in SPLITS}
    sets = {split: {write(program) for program in found} for split, found in drawn.items()}
    assert all(sets[one].isdisjoint(sets[other]) for one in sets for other in sets if one < other)
    for split, found in drawn.items():
        assert all(bool(pairs_of(program) & HELD_OUT) == split.endswith("combinations") for program in found)
    assert {length_of(p) for p in drawn["training"]} == set(range(TRAINING[family][0], TRAINING[family][1] + 1))
    assert min(length_of(p) for p in drawn["longer"]) == LONGER[family][0] > TRAINING[family][1]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_program_asks_something_and_batches_hold_the_interpreter_s_answers(family):
    drawn = programs(family, "longer", 50, np.random.default_rng(2))
    data = batch(drawn)
    for row, program in enumerate(drawn):
        due = interpret(program)
        assert any(answer is not None for answer in due)
        assert data.answers[row, : len(program)].tolist() == [-1 if answer is None else answer for answer in due]
        assert (data.operations[row, len(program) :] == 0).all()
