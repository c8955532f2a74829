"""An attention whose heads read different residual streams, and what it then writes: path patching and circuits.

Convention. Each query head gets residuals of its own for its query, key and value input, [heads, T, d_model] each; keys and
values that heads share are computed once a query head. The rest (norms, positions, mask, output projection) is the
model's own.

Left out: gradients (`nmri3d.models.gradients`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from nmri3d.models.blocks import arguments_from
from nmri3d.models.projections import ProjectionRows
from nmri3d.models.recording import KeptKeysValues, Recording
from nmri3d.models.sites import Block, wide
from nmri3d.models.writes import OutputWeights

Readers = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Residuals that the query, key and value inputs of some heads read, three of [heads, T, d_model]."""


class Attention(NamedTuple):
    """What computes the attention of a layer, and what its heads write."""

    block: Block
    parts: Sequence[ProjectionRows]
    outputs: OutputWeights


def heads_of_readers(
    block: Block,
    parts: Sequence[ProjectionRows],
    arguments: dict[str, Any],
    inputs: Sequence[torch.Tensor],
    heads: Sequence[int],
) -> torch.Tensor:
    """Outputs z [T, heads, d_head] of some heads, before the output projection.

    inputs  residuals that the query, key and value inputs of each of `heads` read, three of [heads, T, d_model]
    """
    q, k, v = inputs
    group = len(parts[0].rows) // len(parts[1].rows)
    own = [list(heads), [head // group for head in heads], [head // group for head in heads]]
    normed = torch.cat([q, k, v])
    if block.norm_before_attn is not None:
        normed = block.norm_before_attn.forward(normed)
    by_slot = normed.chunk(3)
    features: dict[Any, torch.Tensor] = {}
    for part, x, rows in zip(parts, by_slot, own, strict=True):
        computed = part.module.forward(x)
        kept = features.setdefault(part.module, torch.zeros_like(computed))
        for place, row in enumerate(rows):  # the other heads of this copy read nothing and are not looked at
            columns = part.rows[row].to(x.device)
            kept[place][:, columns] = computed[place][:, columns]
    seen: list[torch.Tensor] = []

    def keep(module: Any, args: tuple[Any, ...]) -> None:
        seen.append(args[0].unflatten(-1, (len(parts[0].rows), -1)))

    handles = [
        module.register_forward_hook(lambda m, args, output, value=value: value) for module, value in features.items()
    ]
    handles.append(block.attn_out.register_forward_pre_hook(keep))
    try:
        block.attn.forward(by_slot[0], **arguments_from(arguments, 0, q.shape[1], KeptKeysValues()))
    finally:
        for handle in handles:
            handle.remove()
    places = torch.arange(len(own[0]))
    return seen[0][places, :, own[0]].transpose(0, 1)


def reread(
    attention: Attention, recording: Recording, layer: int, inputs: Readers, heads: Sequence[int]
) -> torch.Tensor:
    """What some heads write when their inputs read other residuals; see `ResidualBackend.reread`."""
    with torch.no_grad():
        whole = recording.heads[layer].clone()
        z = heads_of_readers(attention.block, attention.parts, recording.arguments[layer], inputs, heads)
        whole[:, list(heads)] = z.to(whole.dtype)
        return attention.outputs.rows(whole, recording.scales[layer])[:, list(heads)]


def attention_moved(attention: Attention, recording: Recording, layer: int, inputs: Readers, head: int) -> torch.Tensor:
    """Change of an attention's write; see `ResidualBackend.attention_moved`."""
    (block, parts, outputs), recorded = attention, recording.heads[layer]
    with torch.no_grad():
        z = heads_of_readers(block, parts, recording.arguments[layer], inputs, [head])
        whole = recorded.clone()
        whole[:, head] = z[:, 0].to(whole.dtype)
        if block.norm_after_attn is None:  # linear, so that nothing large cancels
            return outputs.write(whole - recorded)[:, head]
        before, after = (
            wide(block.norm_after_attn.forward(block.attn_out.forward(heads.flatten(-2)[None]))[0])
            for heads in (recorded, whole)
        )
        return after - before
