"""An attention whose heads read different residual streams: what path patching and circuits need.

Convention. Each query head gets residuals of its own for its query, key and value input, [heads, T, d_model] each; keys and
values that heads share are computed once a query head. The rest (norms, positions, mask, output projection) is the
model's own.

Left out: gradients (`nmri3d.models.gradients`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nmri3d.models.blocks import arguments_from
from nmri3d.models.projections import ProjectionRows
from nmri3d.models.recording import KeptKeysValues
from nmri3d.models.sites import Block


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
