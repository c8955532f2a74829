"""Text in figures: sizes that stay legible, and tokens made readable whatever characters they hold.

Convention. All sizes are pixels of the finished picture; matplotlib is told points. Tokens show a space as a middle
dot, a line break as a return arrow, a tab as a tab arrow; a character that no installed font has, or that cannot be
seen, shows as its code point, so that no box or gap stands for it.

Left out: where text stands (image.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

SMALLEST_TEXT = 11.0
"""Smallest text in pixels; a part of the figure that does not fit with it is left out."""
_TEXT_SHARE = 1 / 54
"""Text height as a share of the picture's height (16:9; of the width times 9/16 in narrower pictures)."""

_FAMILIES = (
    "JetBrains Mono",
    "DejaVu Sans Mono",
    "DejaVu Sans",
    "Noto Sans Mono CJK JP",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)
_VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥"}


def text_size(width: int, height: int) -> float:
    """Height of the figure's text in pixels for a picture of this size."""
    return max(SMALLEST_TEXT, min(height, width * 9 / 16) * _TEXT_SHARE)


@cache
def families() -> tuple[str, ...]:
    """Installed font families, monospace first; matplotlib tries them in this order for each character."""
    from matplotlib import font_manager

    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in _FAMILIES if name in installed)


@cache
def _drawable() -> frozenset[int]:
    """Code points that one of the families has."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    points: set[int] = set()
    for name in families():
        points |= FT2Font(font_manager.findfont(name)).get_charmap().keys()
    return frozenset(points)


def readable_token(token: str) -> str:
    """A token's text as it is drawn; an empty token shows as the empty set sign."""
    return "".join(_readable(character) for character in token) or "∅"


def readable_text(text: str) -> str:
    """One line of text as it is drawn: like a token, but spaces stay spaces."""
    return "".join(character if character == " " else _readable(character) for character in text)


def _readable(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    if character.isprintable() and ord(character) in _drawable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


class Pen:
    """Writes text on a matplotlib figure in pixels from its bottom left corner, and measures it first."""

    def __init__(self, figure: Any, size: float) -> None:
        self._figure = figure
        self.size = size

    def write(self, x: float, y: float, text: str, color: str, *, scale: float = 1.0, **options: Any) -> None:
        """Text at a pixel; never read as mathematics."""
        width, height = self._figure.bbox.size
        self._figure.text(
            x / width, y / height, text, color=color, parse_math=False, fontproperties=self._font(scale), **options
        )

    def width(self, text: str, scale: float = 1.0) -> float:
        """Width of a line of text in pixels."""
        renderer = self._figure.canvas.get_renderer()
        return float(renderer.get_text_width_height_descent(text, self._font(scale), False)[0])

    def shorten(self, text: str, room: float, scale: float = 1.0) -> str:
        """The text, or as much of it as fits in `room` pixels with an ellipsis."""
        if self.width(text, scale) <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle] + "…", scale) <= room else (low, middle - 1)
        return text[:low] + "…" if low else ""

    def _font(self, scale: float) -> Any:
        from matplotlib.font_manager import FontProperties

        return FontProperties(family=list(families()), size=self.size * scale * 72 / self._figure.dpi)


def window_around(widths: Sequence[float], shown: int, room: float, ellipsis: float) -> tuple[int, int]:
    """First and one past last of the items that fit in `room` with the shown one among them, grown on both sides.

    widths: pixels of each item, gaps included; ellipsis: pixels kept free on each side that is cut.
    """
    if sum(widths) <= room:
        return 0, len(widths)
    first, last = shown, shown + 1
    used = widths[shown] + 2 * ellipsis
    grown = True
    while grown:
        grown = False
        if last < len(widths) and used + widths[last] <= room:
            used += widths[last]
            last, grown = last + 1, True
        if first > 0 and used + widths[first - 1] <= room:
            first -= 1
            used, grown = used + widths[first], True
    return first, last
