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
    """dm/d(input) of the readers of one block, float32: q, k, v [heads, T, d_model], mlp [T, d_model]."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mlp: torch.Tensor


def graph_bytes(n_steps: int, modules: ModuleMap, n_heads: int, d_model: int, d_mlp: int) -> int:
    """About how much the graph of a whole pass holds: some tensors of each width, and the attention patterns."""
    return 4 * n_steps * len(modules.blocks) * (16 * d_model + 5 * d_mlp + 4 * n_heads * n_steps)


def stream_gradients_of_graph(stream: Sequence[torch.Tensor | None], metric: Metric) -> list[torch.Tensor | None]:
    """Gradients [T, d_model] at every point of a stream [1, T, d_model] that was recorded with its graph."""
    points = [index for index, residual in enumerate(stream) if residual is not None]
    value = metric(stream[-1][0])  # type: ignore[index]  # the last point is always there
    found = torch.autograd.grad(value, [stream[index] for index in points])  # type: ignore[arg-type]
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
    inputs = [
        torch.bmm(features, part.weight.repeat_interleave(len(features) // len(part.rows), dim=0).to(features.dtype))
        for features, part in zip(taken, parts, strict=True)
    ]
    q, k, v = _through_norm(block, x, torch.cat(inputs)).chunk(3)
    mlp = _mlp_gradient(block, x, after) if middle is None else wide(middle - after)
    direct = after + mlp if middle is None else middle
    missing = float((before - direct - q.sum(0) - k.sum(0) - v.sum(0)).norm() / before.norm().clamp_min(1e-30))
    if not missing <= SPLIT_TOLERANCE:
        raise UnsupportedModelError(
            f"the query, key and value inputs of {type(block.attn).__name__} do not account for its gradient (relative "
            f"error {missing:.1e}); its attention reads in a way that nmri3d does not know, so edges would be wrong"
        )
    return ReaderGradients(q, k, v, mlp)


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

    The attention runs as a batch of `group` copies; in copy g only the g-th query head of each group passes its gradient
    on, so that what reaches a shared K/V head is that query head's part alone.
    """
    n_heads, d_head = len(output.w_o), output.w_o.shape[1]
    leaves: dict[Any, torch.Tensor] = {}

    def cut(module: Any, args: Any, features: torch.Tensor) -> torch.Tensor:
        leaves[module] = features.detach().requires_grad_()
        return leaves[module]

    passes = torch.eye(group, dtype=torch.bool, device=normed.device).repeat(1, n_heads // group)

    def only_one_of_the_group(module: Any, args: tuple[Any, ...]) -> Any:
        heads = args[0].unflatten(-1, (n_heads, d_head))
        return (torch.where(passes[:, None, :, None], heads, heads.detach()).flatten(-2), *args[1:])

    handles = [module.register_forward_hook(cut) for module in dict.fromkeys(part.module for part in parts)]
    handles.append(block.attn_out.register_forward_pre_hook(only_one_of_the_group))
    try:
        with torch.enable_grad():
            copies = normed.expand(group, -1, -1)
            write = attention_of_normed(block, copies, arguments)
            found = torch.autograd.grad(write, list(leaves.values()), gradient.expand_as(write))
    finally:
        for handle in handles:
            handle.remove()
    gradients = dict(zip(leaves, found, strict=True))
    taken = []
    for part in parts:
        features = gradients[part.module][:, :, part.rows.to(gradient.device)].permute(
            2, 0, 1, 3
        )  # heads, copies, T, d_head
        # a query head takes part in one copy only; a K/V head takes each copy's gradient as that query head's
        taken.append(features.sum(1) if len(part.rows) == n_heads else features.flatten(0, 1))
    return taken


def _mlp_gradient(block: Block, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return wide(torch.autograd.grad(mlp_write(block, leaf[None])[0], leaf, gradient)[0])


def _through_norm(block: Block, x: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Gradients [readers, T, d_model] at the normed input, pulled back to the residual; float32."""
    if block.norm_before_attn is None:
        return wide(gradients)
    with torch.enable_grad():
        copies = x.detach().expand(len(gradients), -1, -1).requires_grad_()
        normed = block.norm_before_attn.forward(copies)
        (pulled,) = torch.autograd.grad(normed, copies, gradients.to(normed.dtype))
    return wide(pulled)
