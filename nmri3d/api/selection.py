"""Which part of an array: `layers=0,3,5:8` and `positions=0:5,-1`, as entries along its axes.

Convention. Items are numbers and half-open ranges as in Python, negative ones from the end, either end of a range may be
left out. What is named comes once and in the array's own order, whatever the order it was named in. A number that does
not exist, also as the end of a range, is refused: nothing is clamped.

Left out: ranges of bytes, and steps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nmri3d.errors import InputError

_NUMBER = "-?[0-9]{1,9}"
_ITEM = f"(?:(?:{_NUMBER})?:(?:{_NUMBER})?|{_NUMBER})"
SELECTION_PATTERN = f"^{_ITEM}(?:,{_ITEM})*$"
MOST_SELECTION_CHARACTERS = 1000

POSITION_DIMS = frozenset({"token", "position", "query", "step"})
"""Axes that `positions` chooses on; the keys of an attention pattern stay whole."""

_LAYERED_DIMS = frozenset({"component", "neuron"})


def indices(text: str, length: int, name: str) -> np.ndarray:
    """The entries that a selection names on an axis of `length`, int64, ascending, each once.

    name  of the parameter, for the sentence of the error

    Raises InputError for a text that is no selection, an entry that does not exist, and a range that holds nothing.
    """
    if len(text) > MOST_SELECTION_CHARACTERS or not re.fullmatch(SELECTION_PATTERN, text):
        raise InputError(f"{name} takes numbers and ranges such as 0,3,5:8 or 0:5,-1; {text[:40]!r} is neither.")
    chosen = np.zeros(length, dtype=bool)
    for item in text.split(","):
        start, colon, stop = item.partition(":")
        if not colon:
            chosen[_existing(int(item), length, length - 1, name)] = True
            continue
        first = _existing(int(start), length, length, name) if start else 0
        last = _existing(int(stop), length, length, name) if stop else length
        if first >= last:
            raise InputError(f"{name}: the range {item} holds nothing; the end of a range is not part of it.")
        chosen[first:last] = True
    return np.flatnonzero(chosen)


def _existing(number: int, length: int, most: int, name: str) -> int:
    """A number from 0 on for one that may count from the end."""
    if not -length <= number <= most:
        there = f"0 to {length - 1} (or -{length} to -1)" if length else "none"
        raise InputError(f"{name}: there is no {number}; there are {there}.")
    return number + length if number < 0 else number


def select(
    dims: Sequence[str],
    shape: Sequence[int],
    axis_layers: np.ndarray | None,
    layers: str | None,
    positions: str | None,
) -> list[np.ndarray | None]:
    """Entries to keep by axis, None for a whole axis.

    axis_layers  layer of each entry along an axis "component" or "neuron", -1 without one

    Raises InputError as `indices`, and for a selection on an array that has no such axis.
    """
    kept: list[np.ndarray | None] = [None] * len(dims)
    if positions is not None:
        axes = [axis for axis, dim in enumerate(dims) if dim in POSITION_DIMS]
        if not axes:
            raise InputError(f"positions: this array has no positions, its axes are {_listed(dims)}; leave it out.")
        for axis in axes:
            kept[axis] = indices(positions, shape[axis], "positions")
    if layers is not None:
        axes = [
            axis
            for axis, dim in enumerate(dims)
            if dim == "layer" or (dim in _LAYERED_DIMS and axis_layers is not None)
        ]
        if not axes:
            raise InputError(f"layers: this array has no layers, its axes are {_listed(dims)}; leave it out.")
        for axis in axes:
            kept[axis] = _of_layers(layers, dims[axis], shape[axis], axis_layers)
    return kept


def _of_layers(layers: str, dim: str, length: int, axis_layers: np.ndarray | None) -> np.ndarray:
    if dim == "layer" or axis_layers is None:
        return indices(layers, length, "layers")
    wanted = indices(layers, int(axis_layers.max(initial=-1)) + 1, "layers")
    return np.flatnonzero(np.isin(axis_layers, wanted))


def _listed(dims: Sequence[str]) -> str:
    return ", ".join(dims) or "none at all"
