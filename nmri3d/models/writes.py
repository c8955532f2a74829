"""What each component writes into the residual stream, reduced while the forward pass is under way.

Head h of layer l writes `z[p, h] @ W_O[h]` (b_V is inside z), an MLP its output (b_out inside), the embedding its rows
(positions inside), an attention output bias itself. Where the architecture norms a sub-layer's output before adding it
(Gemma-2), that norm's gain and its scale at this run are part of the write, so that writes still add up to the residual.

Reductions of a write of length d at a position: `l2_norm` its Euclidean norm, `max` its largest absolute entry, `mean`
its mean absolute entry. A head's norm needs no vector of length d: with the QR factorisation W_O[h]^T = Q R,
||z W_O[h]|| = ||z R^T||, which is exact and costs d_head^2 instead of d_head * d.

Left out: `unembed`, which writes nothing (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nmri3d.components import ComponentTable
from nmri3d.models.backend import Reducer, Reduction, Run
from nmri3d.models.projections import by_input
from nmri3d.models.sites import Block, ModuleMap, bias_of, wide

REDUCE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "l2_norm": lambda write: torch.linalg.vector_norm(write, dim=-1, dtype=torch.float32),
    "max": lambda write: write.float().abs().amax(dim=-1),
    "mean": lambda write: write.float().abs().mean(dim=-1),
}


@dataclass(frozen=True, eq=False)
class OutputWeights:
    """The attention output projection of one layer.

    w_o          [heads, d_head, d_model], a view of the live weight
    b_o          [d_model] or None
    gain         [d_model], gain of the attention post-norm up to a constant factor; None where there is no post-norm
    norm_factor  [heads, d_head, d_head] float32, R^T of each head's QR factorisation: ||z W_O gain|| = ||z norm_factor||
    """

    w_o: torch.Tensor
    b_o: torch.Tensor | None
    gain: torch.Tensor | None
    norm_factor: torch.Tensor

    def write(self, z: torch.Tensor) -> torch.Tensor:
        """Whole writes of the heads, float32 [steps, heads, d_model], post-norm scale left out."""
        whole = wide(torch.bmm(z.transpose(0, 1).to(self.w_o.dtype), self.w_o).transpose(0, 1))
        return whole if self.gain is None else whole * self.gain

    def rows(self, z: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        """Writes of the table's rows of this attention, float32 [steps, heads (and b_O), d_model].

        z is [steps, heads, d_head], scale [steps] that of the post-norm, None where there is none.
        """
        writes, bias = self.write(z), self.bias_write()
        if bias is not None:
            writes = torch.cat([writes, bias.expand(len(writes), 1, -1)], dim=1)
        return writes if scale is None else writes * scale[:, None, None]

    def bias_write(self) -> torch.Tensor | None:
        """What b_O writes at every position, float32 [d_model], post-norm scale left out."""
        if self.b_o is None:
            return None
        return wide(self.b_o) if self.gain is None else wide(self.b_o) * self.gain


def output_weights(block: Block, n_heads: int) -> OutputWeights:
    """The output projection of a block's attention, on its device; weights are views, only norm_factor is new."""
    w_o = by_input(block.attn_out).unflatten(0, (n_heads, -1))
    gain = None if block.norm_after_attn is None else post_norm_gain(block.norm_after_attn, w_o.shape[-1])
    gained = w_o.float() if gain is None else w_o.float() * gain
    factor = torch.linalg.qr(gained.mT, mode="r").R.mT.contiguous()
    return OutputWeights(w_o, bias_of(block.attn_out), gain, factor)


def post_norm_gain(norm: torch.nn.Module, d_model: int) -> torch.Tensor:
    """Gain [d_model] of an RMS norm up to a constant factor, whatever its parametrisation (w, or 1 + w): norm(ones)."""
    weight = next(norm.parameters())
    with torch.no_grad():
        return wide(norm.forward(torch.ones(1, d_model, dtype=weight.dtype, device=weight.device))[0])


def post_norm_scale(gain: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Frozen scale [steps] of a post-norm in this run: after = scale * before * gain, gain from `post_norm_gain`."""
    gained = wide(before) * gain
    return torch.linalg.vector_norm(wide(after), dim=-1) / torch.linalg.vector_norm(gained, dim=-1)


@dataclass(frozen=True, eq=False)
class TransformerWritePlan:
    """See `nmri3d.models.backend.WritePlan`."""

    reads: Mapping[str, Reducer]
    collect: Callable[[Run], np.ndarray]


def write_plan(
    modules: ModuleMap,
    components: ComponentTable,
    outputs: list[OutputWeights],
    reduction: Reduction,
    layers: frozenset[int],
) -> TransformerWritePlan:
    """Plan to read the writes of all components of the given layers (embed is always read).

    With "whole" nothing is reduced: memory is steps x components x d_model x 4 bytes.
    """
    reduce = REDUCE.get(reduction, wide)
    reads: dict[str, Reducer] = {"hook_embed": reduce}
    for layer in layers:
        name = f"blocks.{layer}"
        reads[f"{name}.attn.hook_z"] = _head_reducer(outputs[layer], reduction, reduce)
        if modules.blocks[layer].mlp is not None:
            reads[f"{name}.hook_mlp_out"] = reduce
        if modules.blocks[layer].norm_after_attn is not None:
            reads[f"{name}.attn.post_norm_scale"] = lambda scale: scale

    def collect(run: Run) -> np.ndarray:
        embed = run.reads["hook_embed"]
        values = torch.full((len(embed), len(components), *embed.shape[1:]), torch.nan, dtype=embed.dtype)
        values[:, components.row("embed")] = embed.cpu()
        for layer in layers:
            heads = run.reads[f"blocks.{layer}.attn.hook_z"]
            bias = outputs[layer].bias_write()
            reduced_bias = None if bias is None else reduce(bias).expand(len(embed), *embed.shape[1:])
            scale = run.reads.get(f"blocks.{layer}.attn.post_norm_scale")
            if scale is not None:
                heads = heads * scale.reshape(-1, *[1] * (heads.ndim - 1))
                if reduced_bias is not None:
                    reduced_bias = reduced_bias * scale.reshape(-1, *[1] * (reduced_bias.ndim - 1))
            values[:, components.rows("head", layer)] = heads.cpu()
            if reduced_bias is not None:
                values[:, components.rows("attn_bias", layer)[0]] = reduced_bias.cpu()
            if modules.blocks[layer].mlp is not None:
                values[:, components.rows("mlp", layer)[0]] = run.reads[f"blocks.{layer}.hook_mlp_out"].cpu()
        return values.numpy()

    return TransformerWritePlan(reads, collect)


def _head_reducer(
    output: OutputWeights, reduction: Reduction, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> Reducer:
    """Reducer of z [steps, heads, d_head] to [steps, heads] (or, whole, [steps, heads, d_model])."""
    if reduction == "l2_norm":
        factor = output.norm_factor

        def norms(z: torch.Tensor) -> Any:
            return torch.linalg.vector_norm(torch.bmm(z.transpose(0, 1).float(), factor), dim=-1).T

        return norms
    return lambda z: reduce(output.write(z))
