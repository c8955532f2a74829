"""Which component each parameter belongs to, and the component table that follows from it.

Convention (DESIGN.md section 4): norms before attention, q/k norms and attention post-norms are split over the heads; a
shared K/V head over the query heads that read it; MLP norms go to the MLP; positions to `embed`; the final norm to
`unembed`; an attention output bias is a row of its own. Integer counts by largest remainder. A tied unembedding counts
once, in `embed`. Every parameter belongs to exactly one row, so the rows add up to the model's own count.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from nmri3d.components import ComponentTable
from nmri3d.errors import UnsupportedModelError
from nmri3d.models.sites import Block, ModuleMap, bias_of, weight_of


def component_table(hf_model: nn.Module, modules: ModuleMap, n_heads: int) -> ComponentTable:
    """The table of a model's components, in the order in which they write.

    Raises UnsupportedModelError when a parameter lies outside the parts that we know.
    """
    owned: set[int] = set()

    def count(*parts: nn.Module | None) -> int:
        total = 0
        for part in parts:
            for parameter in part.parameters() if part is not None else ():
                if id(parameter) not in owned:
                    owned.add(id(parameter))
                    total += parameter.numel()
        return total

    rows: list[tuple[str, int, int, int]] = [("embed", -1, -1, count(modules.embed, modules.pos_embed))]
    for layer, block in enumerate(modules.blocks):
        n_bias = _take_bias(block, owned)
        shared = count(block.norm_before_attn, block.attn, block.norm_after_attn)
        rows += [("head", layer, head, n) for head, n in enumerate(_largest_remainder(shared, n_heads))]
        if n_bias:
            rows.append(("attn_bias", layer, -1, n_bias))
        if block.mlp is not None:
            rows.append(("mlp", layer, -1, count(block.norm_before_mlp, block.mlp, block.norm_after_mlp)))
    rows.append(("unembed", -1, -1, count(modules.final_norm, modules.unembed)))

    stray = [name for name, parameter in hf_model.named_parameters() if id(parameter) not in owned]
    if stray:
        raise UnsupportedModelError(
            f"{type(hf_model).__name__} has parameters outside embedding, attention, MLPs and unembedding "
            f"({', '.join(stray[:3])}{', …' if len(stray) > 3 else ''}), so its scans would not be complete"
        )
    kind, layer_of, index, n_params = zip(*rows, strict=True)
    return ComponentTable(np.array(kind), np.array(layer_of), np.array(index), np.array(n_params))


def neuron_table(modules: ModuleMap, d_model: int) -> ComponentTable:
    """The table of all MLP neurons: layer by layer, a row each; empty where no block has an MLP.

    A neuron owns its columns of the input (and gate) matrices, their biases, and its row of the output matrix.
    """
    layers, indices, n_params = [np.empty(0, int)], [np.empty(0, int)], [np.empty(0, int)]
    for layer, block in enumerate(modules.blocks):
        if block.mlp is None or block.mlp_out is None:
            continue
        bias = bias_of(block.mlp_out)
        d_mlp = weight_of(block.mlp_out).numel() // d_model
        total = sum(parameter.numel() for parameter in block.mlp.parameters())
        own, rest = divmod(total - (bias.numel() if bias is not None else 0), d_mlp)
        if rest:
            raise UnsupportedModelError(f"the parameters of blocks.{layer}.mlp do not divide over its {d_mlp} neurons")
        layers.append(np.full(d_mlp, layer))
        indices.append(np.arange(d_mlp))
        n_params.append(np.full(d_mlp, own))
    layer_of = np.concatenate(layers)
    return ComponentTable(np.full(len(layer_of), "neuron"), layer_of, np.concatenate(indices), np.concatenate(n_params))


def _take_bias(block: Block, owned: set[int]) -> int:
    """Mark the attention output bias as owned and return its size (0 where there is none)."""
    bias = getattr(block.attn_out, "bias", None)
    if bias is None:
        return 0
    owned.add(id(bias))
    return int(bias.numel())


def _largest_remainder(total: int, n: int) -> list[int]:
    """Split an integer into n equal shares whose sum is the integer; the first shares take what is left over."""
    base, rest = divmod(total, n)
    return [base + (position < rest) for position in range(n)]
