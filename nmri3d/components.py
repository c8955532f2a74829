"""The component table: what a model is made of, one row a component, and the text ids of the rows.

Convention. Ids follow TransformerLens: `embed`, `blocks.3.attn.head_7`, `blocks.3.attn.b_O` (an attention output
bias, which belongs to no head and has no place on the cortex), `blocks.5.mlp`, `blocks.5.mlp.neuron_1247`, `unembed`.
`blocks.3.attn.h7` is read as `blocks.3.attn.head_7`. Rows stand in the order in which they write to the residual
stream. `layer` and `index` are -1 where they have no meaning.

Kinds of other networks are lower-case words: `decoder` (the only one of its kind, whatever its layer), `unit.17` (without
a layer), `place_cell.2.17` (layer 2, index 17).

Left out: tensors of any kind. A table is a few small integer arrays; the scans are arrays whose last axis is its rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nmri3d.errors import AlignmentError, InputError

KINDS = ("embed", "head", "attn_bias", "mlp", "neuron", "unembed")
"""Kinds that a language model's tables hold. A phantom may add kinds of its own."""

PLACELESS_KINDS = frozenset({"attn_bias", "neuron"})
"""Kinds that have no place of their own in the brain at component level."""

_BLOCK_ID = re.compile(
    r"blocks\.(0|[1-9]\d*)\.(?:attn\.(?:head_|h)(0|[1-9]\d*)|(attn\.b_O)|mlp(?:\.neuron_(0|[1-9]\d*))?)"
)
_OTHER_ID = re.compile(r"([a-z][a-z0-9_]*)(?:\.(0|[1-9]\d{0,8}))?(?:\.(0|[1-9]\d{0,8}))?")
_NO_OTHER_KINDS = frozenset({*KINDS, "blocks"})


class ComponentKey(NamedTuple):
    """What a text id says: kind, layer and index (-1 where they have no meaning)."""

    kind: str
    layer: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a key


def component_id(kind: str, layer: int = -1, index: int = -1) -> str:
    """Canonical text id of a component; the inverse of `parse_component_id`."""
    match kind:
        case "embed" | "unembed":
            return kind
        case "head":
            return f"blocks.{layer}.attn.head_{index}"
        case "attn_bias":
            return f"blocks.{layer}.attn.b_O"
        case "mlp":
            return f"blocks.{layer}.mlp"
        case "neuron":
            return f"blocks.{layer}.mlp.neuron_{index}"
    if index < 0:
        return kind
    return f"{kind}.{layer}.{index}" if layer >= 0 else f"{kind}.{index}"


def parse_component_id(text: str) -> ComponentKey:
    """Read a component id, canonical or short (`blocks.3.attn.h7`); the layer of an only one of its kind is not in its id.

    Raises InputError with the forms that are understood when the text is none of them.
    """
    if text in ("embed", "unembed"):
        return ComponentKey(text, -1, -1)
    match = _BLOCK_ID.fullmatch(text) if isinstance(text, str) else None
    other = _OTHER_ID.fullmatch(text) if isinstance(text, str) else None
    if other is not None and other[1] not in _NO_OTHER_KINDS:
        numbers = [int(number) for number in other.groups()[1:] if number is not None]
        return ComponentKey(other[1], *[-1] * (2 - len(numbers)), *numbers)
    if match is None:
        raise InputError(
            f"{text!r} is not a component id; write embed, unembed, blocks.3.attn.head_7, blocks.5.mlp, "
            "blocks.5.mlp.neuron_1247, or the id of another network's part such as unit.17"
        )
    layer, head, bias, neuron = match.groups()
    if head is not None:
        return ComponentKey("head", int(layer), int(head))
    if bias is not None:
        return ComponentKey("attn_bias", int(layer), -1)
    if neuron is not None:
        return ComponentKey("neuron", int(layer), int(neuron))
    return ComponentKey("mlp", int(layer), -1)


@dataclass(frozen=True, eq=False)
class ComponentTable:
    """Rows of components as a structure of arrays, all of length n.

    kind      [n] str        one of KINDS, or a phantom's own
    layer     [n] int32      block number, -1 for embed and unembed
    index     [n] int32      head or neuron number within its layer, -1 where there is one only
    n_params  [n] int64      parameters that belong to the row (DESIGN: each parameter belongs to exactly one row)
    """

    kind: np.ndarray
    layer: np.ndarray
    index: np.ndarray
    n_params: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in (("kind", None), ("layer", np.int32), ("index", np.int32), ("n_params", np.int64)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        lengths = {name: len(getattr(self, name)) for name in ("kind", "layer", "index", "n_params")}
        if len(set(lengths.values())) != 1:
            raise AlignmentError(f"columns of a component table differ in length: {lengths}")
        if len(set(self.ids)) != len(self):
            raise AlignmentError("a component table holds the same id twice")

    def __len__(self) -> int:
        return len(self.kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Canonical text id of every row."""
        rows = zip(self.kind.tolist(), self.layer.tolist(), self.index.tolist(), strict=True)
        return tuple(component_id(*row) for row in rows)

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.ids)}

    def row(self, text: str) -> int:
        """Row number of a component id. Raises InputError for an id that this model does not have."""
        row = self._row_of_id.get(text) if isinstance(text, str) else None
        if row is None:
            row = self._row_of_id.get(component_id(*parse_component_id(text)))
        if row is None:
            raise InputError(f"this model has no component {text!r}; {self._what_there_is()}, see model.components.ids")
        return row

    def _what_there_is(self) -> str:
        if np.isin(self.kind, ("head", "mlp")).any():
            return f"its blocks are 0 to {int(self.layer.max())}"
        return f"it has {len(self)}, from {self.ids[0]} to {self.ids[-1]}" if len(self) else "it has none"

    def rows(self, kind: str | None = None, layer: int | None = None) -> np.ndarray:
        """Row numbers, int64 [m], ascending, of one kind, of one layer, or of both."""
        chosen = np.ones(len(self), dtype=bool)
        if kind is not None:
            chosen &= self.kind == kind
        if layer is not None:
            chosen &= self.layer == layer
        return np.flatnonzero(chosen)

    @cached_property
    def cortical(self) -> np.ndarray:
        """Row numbers, int64 [m], of the components that have a place in the brain."""
        return np.flatnonzero(~np.isin(self.kind, sorted(PLACELESS_KINDS)))

    @cached_property
    def key(self) -> str:
        """Short hash of all columns: equal for equal tables, in any process."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        digest.update(self.n_params.tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ComponentTable) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        kinds, counts = np.unique(self.kind, return_counts=True)
        body = ", ".join(f"{count} {kind}" for kind, count in zip(kinds, counts, strict=True))
        return f"ComponentTable({len(self)} rows: {body})"
