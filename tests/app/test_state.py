"""What the browser says is checked before it is used."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.app.state import (
    LONGEST_TEXT,
    PageState,
    require_choice,
    require_index,
    require_message,
    require_mode,
    require_number,
    require_share,
    require_text,
    require_vector,
    require_whole,
)
from nmri3d.errors import InputError

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
)


@given(ANYTHING, st.integers(1, 50))
def test_an_index_is_a_whole_number_in_range_or_refused(value, count):
    valid = (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < count and value == int(value)
    )
    if valid:
        found = require_index(value, count, "row")
        assert type(found) is int
        assert found == value
    else:
        with pytest.raises(InputError, match="row must be a whole number from 0"):
            require_index(value, count, "row")


@given(ANYTHING, st.integers(-5, 5), st.integers(0, 9))
def test_a_whole_number_has_ends(value, low, more):
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and value == int(value) and low <= value <= low + more:
        assert require_whole(value, low, low + more, "window") == value
    else:
        with pytest.raises(InputError, match="window must be a whole number"):
            require_whole(value, low, low + more, "window")


@given(ANYTHING)
def test_a_message_is_named_options_or_refused(value):
    if isinstance(value, dict):
        assert require_message(value) is value
    else:
        with pytest.raises(InputError, match="named options"):
            require_message(value)


@given(ANYTHING)
def test_a_share_is_finite_and_within_0_and_1_or_refused(value):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and 0 <= value <= 1:
        assert require_share(value, "threshold") == value
    else:
        with pytest.raises(InputError, match="threshold"):
            require_share(value, "threshold")


@given(ANYTHING)
def test_a_mode_is_one_of_five_or_refused(value):
    if value in ("T1", "T2", "fMRI", "DTI", "FLAIR"):
        assert require_mode(value) == value
    else:
        with pytest.raises(InputError, match="FLAIR"):
            require_mode(value)


def test_a_choice_names_what_is_known():
    with pytest.raises(InputError, match="pial, inflated"):
        require_choice("flat", ("pial", "inflated"), "surface")


@given(st.lists(st.one_of(ANYTHING, st.integers(-(10**400), 10**400)), max_size=4))
def test_a_vector_is_three_bounded_numbers_or_refused(value):
    valid = len(value) == 3 and all(
        isinstance(one, int | float) and not isinstance(one, bool) and -1e5 <= one <= 1e5 for one in value
    )
    if valid:
        assert require_vector(value, "place") == tuple(value)
    else:
        with pytest.raises(InputError, match="place must be"):
            require_vector(value, "place")


def test_a_number_has_ends():
    assert require_number(3, 1, 3, "angle") == 3.0
    for wrong in (0.99, 3.01, math.nan, math.inf, 10**400, "2", True, None):
        with pytest.raises(InputError, match="angle must be a number from 1 to 3"):
            require_number(wrong, 1, 3, "angle")


def test_a_text_is_bounded():
    assert require_text(" é ", "prompt") == " é "
    with pytest.raises(InputError, match="prompt"):
        require_text("x" * (LONGEST_TEXT + 1), "prompt")
    with pytest.raises(InputError, match="prompt"):
        require_text(b"x", "prompt")


def test_every_page_begins_with_defaults_of_its_own():
    one, other = PageState(), PageState()
    one.errors["prompt"] = "x"
    assert other.as_dict()["errors"] == {}
