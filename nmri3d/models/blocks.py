"""The two sub-layers of a transformer block, called by themselves on a batch of residual streams.

Convention. `attention_write(x)` and `mlp_write(x)` give what the sub-layer adds to the residual when it reads x: pre-norm,
sub-layer, post-norm where there is one. They call the model's own modules (their `forward`, so that no hook fires), with
the keyword arguments that the model gave them in a recorded pass.

Left out: dropout (models are in eval mode) and residual multipliers (refused when a model is loaded, by completeness).
"""

from __future__ import annotations

from typing import Any

import torch

from nmri3d.models.recording import cache_argument
from nmri3d.models.sites import Block


def attention_write(
    block: Block, x: torch.Tensor, arguments: dict[str, Any], start: int = 0, cache: Any = None
) -> torch.Tensor:
    """What attention adds to residual streams x [rows, T - start, d_model] of the steps from `start` on.

    `cache` gives the keys and values of the steps before (`PrefixedKeysValues`) or keeps those of this call.
    """
    normed = x if block.norm_before_attn is None else block.norm_before_attn.forward(x)
    return attention_of_normed(block, normed, arguments, start, cache)


def attention_of_normed(
    block: Block, normed: torch.Tensor, arguments: dict[str, Any], start: int = 0, cache: Any = None
) -> torch.Tensor:
    """The same when what attention reads, after its norm, is given."""
    output = block.attn.forward(normed, **arguments_from(arguments, start, normed.shape[1], cache))
    write = output[0] if isinstance(output, tuple) else output
    return write if block.norm_after_attn is None else block.norm_after_attn.forward(write)


def mlp_write(block: Block, x: torch.Tensor) -> torch.Tensor:
    """What the MLP adds to residual streams x [..., d_model]; nothing where a block has none."""
    if block.mlp is None:
        return torch.zeros_like(x)
    normed = x if block.norm_before_mlp is None else block.norm_before_mlp.forward(x)
    write = block.mlp.forward(normed)
    return write if block.norm_after_mlp is None else block.norm_after_mlp.forward(write)


def arguments_from(arguments: dict[str, Any], start: int, length: int, cache: Any) -> dict[str, Any]:
    """Keyword arguments of an attention module for `length` steps from `start` on, given those of all steps."""
    chosen = dict(arguments)
    chosen[cache_argument(arguments)] = cache
    stop = start + length
    for name, value in arguments.items():
        if name == "attention_mask":
            # None stands for plain causal attention, which a kernel would align to the first step
            chosen[name] = _causal(start, stop, arguments) if value is None else value[..., start:stop, :stop]
        elif name == "position_embeddings" and value is not None:
            chosen[name] = tuple(part[:, start:stop] for part in value)
        elif name == "position_ids" and value is not None:
            chosen[name] = value[:, start:stop]
        elif name == "cache_position" and value is not None:
            chosen[name] = value[start:stop]
    return chosen


def _causal(start: int, stop: int, arguments: dict[str, Any]) -> torch.Tensor | None:
    if start == 0:
        return None
    steps = torch.arange(stop, device=arguments["position_ids"].device)
    return (steps[None, :] <= steps[start:, None])[None, None]
