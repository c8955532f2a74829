"""Text of figures: tokens made readable, and the window of tokens around the shown one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.export.lettering import (
    SMALLEST_TEXT,
    Pen,
    families,
    readable_text,
    readable_token,
    text_size,
    window_around,
)


def test_spaces_and_breaks_of_tokens_are_seen():
    assert readable_token(" Paris") == "·Paris"
    assert readable_token("\n\t") == "↵⇥"
    assert readable_token("") == "∅"
    assert readable_text("two words") == "two words"


def test_what_cannot_be_drawn_shows_as_its_code_point():
    assert readable_token("\x00") == "\\u0000"
    assert readable_token("\u200b") == "\\u200b"
    assert readable_token("\U0001f9e0") in ("\U0001f9e0", "\\U0001f9e0")


@given(st.text(max_size=20))
@settings(deadline=None)
def test_every_drawn_character_is_in_one_of_the_fonts(text):
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    charmaps = [FT2Font(font_manager.findfont(name)).get_charmap() for name in families()]
    drawn = readable_token(text)
    assert all(any(ord(character) in charmap for charmap in charmaps) for character in drawn)


def test_text_grows_with_the_picture_and_has_a_floor():
    assert text_size(3840, 2160) == pytest.approx(2 * text_size(1920, 1080))
    assert text_size(1000, 4000) == pytest.approx(text_size(1000, 562.5))
    assert text_size(100, 100) == SMALLEST_TEXT


@given(st.lists(st.floats(1, 50), min_size=1, max_size=60), st.data(), st.floats(120, 900))
@settings(deadline=None)
def test_the_window_holds_the_shown_token_and_fits(widths, data, room):
    shown = data.draw(st.integers(0, len(widths) - 1))
    ellipsis = 10.0
    first, last = window_around(widths, shown, room, ellipsis)
    assert 0 <= first <= shown < last <= len(widths)
    cut = (first > 0) + (last < len(widths))
    assert sum(widths[first:last]) + cut * ellipsis <= room + 1e-6
    if cut:  # nothing more would have fitted
        spare = room - sum(widths[first:last]) - 2 * ellipsis
        assert all(widths[i] > spare for i in (first - 1, last) if 0 <= i < len(widths))


def test_text_is_shortened_to_its_room():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100)
    FigureCanvasAgg(figure)
    pen = Pen(figure, 20)
    whole = "a long name of a model"
    assert pen.shorten(whole, 10_000) == whole
    short = pen.shorten(whole, 120)
    assert short.endswith("…")
    assert whole.startswith(short[:-1])
    assert pen.width(short) <= 120 < pen.width(whole)
    assert pen.shorten(whole, 1) == ""
