"""A scan described layer by layer, as neural-mri.md 4.3 and 4.2 have it: embed, blocks.0.attn, blocks.0.mlp, and so on.

Convention. Layers stand in the order of the residual stream.
Summaries are the scan's own values, in its units; at neuron level an MLP is summed up by the largest |activation| of its
neurons. A number of one position is that of the last position of the scan. NaN, what was not measured, becomes null.

Left out: the numbers of every head at every position, which are the scan's `values`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from nmri3d.api.schema import Answer, ArrayLink
from nmri3d.components import ComponentTable, parse_component_id
from nmri3d.errors import InputError
from nmri3d.results import Scan, TopNeuron

LayerType = Literal["embedding", "attention", "mlp", "unembedding", "unit"]

_TYPES: dict[str, LayerType] = {
    "embed": "embedding",
    "head": "attention",
    "attn_bias": "attention",
    "mlp": "mlp",
    "neuron": "mlp",
    "unembed": "unembedding",
}
_PLACES = {"head": "attn", "attn_bias": "attn", "mlp": "mlp", "neuron": "mlp"}
_PASSIVE = ("unembed", "attn_bias")
"""Kinds that hold parameters but nothing that a scan of activity shows as a layer."""

PER_POSITION = "one value a position of `positions`"
LAST_POSITION = "at the last position of `positions`"


class EmbeddingLayer(Answer):
    """What the embedding writes."""

    type: Literal["embedding"] = "embedding"
    shape: list[int] = Field(description="[positions, width of the residual stream]")
    activations_summary: list[float | None] = Field(description=PER_POSITION)


class AttentionLayer(Answer):
    """What the heads of an attention write."""

    type: Literal["attention"] = "attention"
    num_heads: int
    per_head_activation: list[float | None] = Field(description=f"one value a head, {LAST_POSITION}")
    attention_patterns: ArrayLink | None = Field(
        description="[heads, query, key] over all tokens of the prompt; computed when it is fetched"
    )


class NeuronActivation(Answer):
    """One neuron of an MLP."""

    idx: int = Field(description="number within its layer")
    activation: float = Field(description="signed, after the nonlinearity (gated MLPs: after the gate)")
    label: str | None = Field(None, description="null: neurons have no names")


class MlpLayer(Answer):
    """What an MLP writes."""

    type: Literal["mlp"] = "mlp"
    activation_summary: list[float | None] = Field(description=PER_POSITION)
    top_neurons: list[NeuronActivation] = Field(
        description=f"largest |activation| first, {LAST_POSITION}; as many as were asked for"
    )


class UnitLayer(Answer):
    """Components of a network that is no transformer."""

    type: Literal["unit"] = "unit"
    activations: list[float | None] = Field(description=f"one value a unit, {LAST_POSITION}")


Layer = Annotated[EmbeddingLayer | AttentionLayer | MlpLayer | UnitLayer, Field(discriminator="type")]


@dataclass(frozen=True, eq=False)
class LayerRows:
    """A layer's id ("blocks.3.attn"), its type, its block (-1 without one), and its rows in the table, ascending."""

    id: str
    type: LayerType
    block: int
    rows: np.ndarray


def layers_of(table: ComponentTable, *, passive: bool = False) -> list[LayerRows]:
    """The layers of a table of components or of neurons, in the order of the stream.

    passive  with `unembed`, and with the output biases as rows of their attention: whatever has parameters
    """
    groups: dict[tuple[str, LayerType, int], list[int]] = {}
    for row, (kind, block) in enumerate(zip(table.kind.tolist(), table.layer.tolist(), strict=True)):
        if passive or kind not in _PASSIVE:
            groups.setdefault((_layer_id(kind, block), _TYPES.get(kind, "unit"), block), []).append(row)
    return [LayerRows(layer_id, kind, block, np.array(rows)) for (layer_id, kind, block), rows in groups.items()]


def _layer_id(kind: str, block: int) -> str:
    if kind in _PLACES:
        return f"blocks.{block}.{_PLACES[kind]}"
    return kind if block < 0 else f"{kind}.{block}"


def describe_layers(
    scan: Scan,
    *,
    width: int,
    only: Collection[str] | None = None,
    patterns: Callable[[int], ArrayLink] | None = None,
    neurons: Mapping[int, Sequence[TopNeuron]] | None = None,
) -> dict[str, Layer]:
    """The layers of a scan by id.

    width     of the residual stream
    only      ids of the layers to describe, None for all
    patterns  gives the link to the attention patterns of a block
    neurons   strongest neurons by block
    """
    return {
        layer.id: _described(scan, layer, width, patterns, (neurons or {}).get(layer.block, ()))
        for layer in layers_of(scan.components)
        if only is None or layer.id in only
    }


def _described(
    scan: Scan,
    layer: LayerRows,
    width: int,
    patterns: Callable[[int], ArrayLink] | None,
    neurons: Sequence[TopNeuron],
) -> Layer:
    if layer.type == "embedding":
        return EmbeddingLayer(shape=[scan.n_steps, width], activations_summary=scan.values[:, layer.rows[0]].tolist())
    if layer.type == "mlp":
        return MlpLayer(
            activation_summary=_summary(scan.values[:, layer.rows]).tolist(),
            top_neurons=[NeuronActivation(idx=one.index, activation=one.activation, label=None) for one in neurons],
        )
    last = scan.values[-1, layer.rows].tolist()
    if layer.type == "unit":
        return UnitLayer(activations=last)
    return AttentionLayer(
        num_heads=len(layer.rows),
        per_head_activation=last,
        attention_patterns=None if patterns is None else patterns(layer.block),
    )


def _summary(values: np.ndarray) -> np.ndarray:
    """One number a position, [steps], of an MLP's own value or of its neurons', [steps, rows]."""
    return values[:, 0] if values.shape[1] == 1 else np.abs(values).max(axis=1)


def chosen_layers(
    wanted: Literal["all"] | Sequence[int | str], table: ComponentTable
) -> tuple[list[int] | None, frozenset[str] | None]:
    """What a request's `layers` means: the blocks to scan (None: all), and the ids of the layers to describe (None: all).

    A number stands for the whole block, negative ones from the end; "embed" for the embedding, which every scan reads.

    Raises InputError for a layer that the model does not have, and for an empty list.
    """
    if wanted == "all":
        return None, None
    if not wanted:
        raise InputError('layers is an empty list, so there is nothing to scan; write "all", or name some')
    there = {layer.id: layer.block for layer in layers_of(table)}
    n_blocks = max(there.values(), default=-1) + 1
    only: list[str] = []
    for one in wanted:
        if isinstance(one, str):
            if one not in there:
                raise InputError(
                    f"this model has no layer {one!r}; write embed, blocks.3.attn or blocks.3.mlp, with blocks 0 to "
                    f"{n_blocks - 1}{_hint(one)}"
                )
            only.append(one)
        elif not -n_blocks <= one < n_blocks:
            raise InputError(f"layer {one} is outside this model, which has {n_blocks} (0 to {n_blocks - 1})")
        else:
            only += [layer_id for layer_id, block in there.items() if block == one % n_blocks]
    blocks = sorted({there[layer_id] for layer_id in only if there[layer_id] >= 0})
    return blocks or [0], frozenset(only)


def _hint(text: str) -> str:
    """What to say of an id of a component, which is finer than a layer."""
    try:
        key = parse_component_id(text)
    except InputError:
        return ""
    return f"; {text} is one of its components, see `values`" if key.kind in ("head", "neuron") else ""
