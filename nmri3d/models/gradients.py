"""The gradient of a metric along the residual stream, and what of it each reader takes.

Convention. The metric m is a scalar of the residual before the final norm. `stream_gradients` gives dm/dx at every point
of the stream (`nmri3d.models.recording`): the total derivative, by all ways upward. dm/dw of a component's write w is the
gradient at the point where it joins. `reader_gradients` splits the difference between two points into the readers in
between: for each query head its query, key and value input, and the MLP input. Keys and values that query heads share
(grouped queries) are split as if each query head had its own copy. All readers and the direct way add up:

    dm/dx[2 l] = dm/dx[2 l + 1] + sum over heads of (G_q + G_k + G_v),   dm/dx[2 l + 1] = dm/dx[2 l + 2] + G_mlp

(parallel blocks: one step with both). That is checked on every call.

Cost. One forward and one backward pass; where the graph would need more than `GRAPH_BYTES`, blocks are computed once more
on the way back and only one is held at a time.

Left out: gradients with respect to weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nmri3d.errors import UnsupportedModelError
from nmri3d.models.backend import Metric
from nmri3d.models.blocks import attention_of_normed, attention_write, mlp_write
from nmri3d.models.norms import frozen_norm
from nmri3d.models.passes import Passes
from nmri3d.models.projections import ProjectionRows
from nmri3d.models.recording import Recording
from nmri3d.models.sites import Block, ModuleMap, wide
from nmri3d.models.writes import OutputWeights

GRAPH_BYTES = 1 << 30
"""Above this estimate of the graph of a whole pass, the backward pass goes block by block."""

SPLIT_TOLERANCE = 1e-3
"""Relative error at which the readers of an attention no longer add up to its gradient (measured: 1e-6 in float32)."""


@dataclass(frozen=True, eq=False)
class ReaderGradients:
    """dm/d(input) of the readers of one block, float32: attention [3, heads, T, d_model], mlp [T, d_model]."""

    attention: torch.Tensor
    """Of the query, key and value inputs, in this order."""
    mlp: torch.Tensor


def graph_bytes(n_steps: int, modules: ModuleMap, n_heads: int, d_model: int, d_mlp: int) -> int:
    """About how much the graph of a whole pass holds: some tensors of each width, and the attention patterns."""
    return 4 * n_steps * len(modules.blocks) * (16 * d_model + 5 * d_mlp + 4 * n_heads * n_steps)


def stream_gradients_of_graph(
    passes: Passes, stream: Sequence[torch.Tensor | None], metric: Metric
) -> list[torch.Tensor | None]:
    """Gradients [T, d_model] at every point of a stream [1, T, d_model] that was recorded with its graph."""
    points = [index for index, residual in enumerate(stream) if residual is not None]
    value = metric(stream[-1][0])  # type: ignore[index]  # the last point is always there
    found = passes.gradients(value, [stream[index] for index in points])  # type: ignore[misc]
    gradients: list[torch.Tensor | None] = [None] * len(stream)
    for index, gradient in zip(points, found, strict=True):
        gradients[index] = gradient[0]
    return gradients


def stream_gradients_by_block(modules: ModuleMap, recording: Recording, metric: Metric) -> list[torch.Tensor | None]:
    """The same of a recording without a graph: each block computed again, with the graph of that block alone."""
    n_layers = len(modules.blocks)
    gradients: list[torch.Tensor | None] = [None] * (2 * n_layers + 1)
    with torch.enable_grad():
        final = recording.at(2 * n_layers).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(metric(final), final)
        gradients[2 * n_layers] = gradient
        for layer in reversed(range(n_layers)):
            block, arguments = modules.blocks[layer], recording.arguments[layer]
            if modules.parallel:
                x = recording.at(2 * layer).detach().requires_grad_()
                out = attention_write(block, x[None], arguments)[0] + mlp_write(block, x[None])[0]
                gradient = gradient + torch.autograd.grad(out, x, gradient)[0]
            else:
                if block.mlp is not None:
                    x = recording.at(2 * layer + 1).detach().requires_grad_()
                    gradient = gradient + torch.autograd.grad(mlp_write(block, x[None])[0], x, gradient)[0]
                gradients[2 * layer + 1] = gradient
                x = recording.at(2 * layer).detach().requires_grad_()
                gradient = gradient + torch.autograd.grad(attention_write(block, x[None], arguments)[0], x, gradient)[0]
            gradients[2 * layer] = gradient
    return gradients


def reader_gradients(
    block: Block,
    x: torch.Tensor,
    arguments: dict[str, Any],
    output: OutputWeights,
    parts: Sequence[ProjectionRows],
    before: torch.Tensor,
    middle: torch.Tensor | None,
    after: torch.Tensor,
) -> ReaderGradients:
    """What each reader of a block takes of the gradient.

    x [T, d_model] is the residual that enters the block; before, middle (None in a parallel block) and after are the
    gradients [T, d_model] at its points. Raises UnsupportedModelError where the readers do not add up.
    """
    gradient = after if middle is None else middle
    group = len(parts[0].rows) // len(parts[1].rows)
    normed = x if block.norm_before_attn is None else block.norm_before_attn.forward(x)
    taken = _projection_gradients(block, normed, arguments, output, parts, gradient, group)
    heads, n_steps = len(output.w_o), len(x)
    inputs = gradient.new_empty(3, heads, n_steps, x.shape[-1])
    for slot, (features, part) in enumerate(zip(taken, parts, strict=True)):
        by_projected_head = features.unflatten(0, (len(part.rows), -1)).flatten(1, 2)
        torch.bmm(
            by_projected_head, part.weight.to(features.dtype), out=inputs[slot].view(len(part.rows), -1, x.shape[-1])
        )
    if block.norm_before_attn is not None:
        inputs = frozen_norm(block.norm_before_attn, x).pull_back(inputs)
    attention = wide(inputs)
    mlp = _mlp_gradient(block, x, after) if middle is None else wide(middle - after)
    direct = after + mlp if middle is None else middle
    missing = float((before - direct - attention.sum((0, 1))).norm() / before.norm().clamp_min(1e-30))
    if not missing <= SPLIT_TOLERANCE:
        raise UnsupportedModelError(
            f"the query, key and value inputs of {type(block.attn).__name__} do not account for its gradient (relative "
            f"error {missing:.1e}); its attention reads in a way that nmri3d does not know, so edges would be wrong"
        )
    return ReaderGradients(attention, mlp)


def _projection_gradients(
    block: Block,
    normed: torch.Tensor,
    arguments: dict[str, Any],
    output: OutputWeights,
    parts: Sequence[ProjectionRows],
    gradient: torch.Tensor,
    group: int,
) -> list[torch.Tensor]:
    """dm/d(features) of Q, K and V, each [heads, T, d_head], keys and values as each query head takes them.

    The attention between its projections runs as a batch of `group` copies; in copy g only the g-th query head of each
    group passes its gradient on, so that what reaches a shared K/V head is that query head's part alone.
    """
    n_heads = len(output.w_o)
    leaves: dict[Any, torch.Tensor] = {}
    outputs: list[torch.Tensor] = []

    def one_copy(module: Any, args: tuple[Any, ...]) -> Any:
        return (args[0][:1], *args[1:])

    def cut(module: Any, args: Any, features: torch.Tensor) -> torch.Tensor:
        leaves[module] = features.detach().repeat(group, 1, 1).requires_grad_()
        return leaves[module]

    def keep(module: Any, args: tuple[Any, ...]) -> Any:
        outputs.append(args[0])
        return (args[0][:1, :1], *args[1:])  # what is projected from here on is not looked at

    handles: list[Any] = [block.attn_out.register_forward_pre_hook(keep)]
    for module in dict.fromkeys(part.module for part in parts):
        handles += [module.register_forward_pre_hook(one_copy), module.register_forward_hook(cut)]
    try:
        with torch.enable_grad():
            attention_of_normed(block, normed.expand(group, -1, -1), arguments)
            at_heads = _through_output(block, output, outputs[0][0].detach(), gradient)
            passes = torch.eye(group, dtype=torch.bool, device=normed.device).repeat(1, n_heads // group)
            taken = (at_heads * passes[:, None, :, None]).flatten(-2)
            found = torch.autograd.grad(outputs[0], list(leaves.values()), taken)
    finally:
        for handle in handles:
            handle.remove()
    gradients = dict(zip(leaves, found, strict=True))
    by_head = []
    for part in parts:
        features = gradients[part.module][:, :, part.rows.to(gradient.device)].permute(
            2, 0, 1, 3
        )  # heads, copies, T, d_head
        # a query head takes part in one copy only; a K/V head takes each copy's gradient as that query head's
        by_head.append(features.sum(1) if len(part.rows) == n_heads else features.flatten(0, 1))
    return by_head


def _through_output(block: Block, output: OutputWeights, heads: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """A gradient [T, d_model] at what attention writes, pulled back to the outputs of its heads, [T, heads, d_head]."""
    if block.norm_after_attn is not None:
        with torch.no_grad():
            gradient = frozen_norm(block.norm_after_attn, block.attn_out.forward(heads)).pull_back(gradient)
    pulled = gradient.to(output.w_o.dtype) @ output.w_o.flatten(0, 1).T
    return pulled.unflatten(-1, output.w_o.shape[:2])


def _mlp_gradient(block: Block, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return wide(torch.autograd.grad(mlp_write(block, leaf[None])[0], leaf, gradient)[0])
