"""What a model must show on a test prompt before it is scanned; one that does not is refused with the reason.

Completeness: the writes of all components add up to the residual before the final norm, at every position, summed in
float32. The lens: final norm and unembedding of the last residual are the model's own logits. And where the parts of blocks
were found without TransformerLens' word for it, that they do what parts of those names do: replays, edges and weight
statistics take blocks apart, so each sub-layer, called by itself on a recorded residual, must give what it gave, and each
K/V head's rows of the value projection must give the values that the model put into its cache.

Without that (an architecture that TransformerLens vouches for) its sub-layers are compared before the first replay, which
a start need not wait for.

Left out: telling queries from keys, which only their positions and norms do (a wrong split of an attention's gradient is
noticed when edges are measured).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nmri3d.errors import UnsupportedModelError
from nmri3d.models.backend import Run
from nmri3d.models.blocks import attention_write, mlp_write
from nmri3d.models.projections import ProjectionRows
from nmri3d.models.readout import Readout
from nmri3d.models.recording import Recording
from nmri3d.models.sites import Block, ModuleMap, wide
from nmri3d.models.writes import TransformerWritePlan

TEST_PROMPT = "The quick brown fox jumps over the lazy dog, and the dog sleeps."

TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 5e-2}
"""Worst relative error allowed of writes and lens, by dtype of the weights (measured on SmolLM2: 1e-7, 1e-3, 3e-2)."""

BLOCK_TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""The same of a sub-layer that is run again, which differs by rounding only; 1e-4 in other dtypes."""


def require_complete(hf_model: Any, plan: TransformerWritePlan, run: Run) -> float:
    """Worst relative error, over positions, of the sum of all writes against the residual before the final norm.

    `run` read the whole writes by `plan`, and hook_resid_final. Raises UnsupportedModelError where it is too large.
    """
    residual = run.reads["hook_resid_final"].float().cpu().numpy()
    total = np.nansum(plan.collect(run), axis=1, dtype=np.float32)
    error = float((np.linalg.norm(total - residual, axis=-1) / np.linalg.norm(residual, axis=-1)).max())
    tolerance = TOLERANCE.get(hf_model.dtype, 1e-4)
    if not error <= tolerance:
        raise UnsupportedModelError(
            f"the components of {type(hf_model).__name__} do not add up to its residual stream (relative error "
            f"{error:.1e}, allowed {tolerance:.0e} in {hf_model.dtype}); its blocks write in a way that nmri3d does not know, "
            "so its scans would be wrong"
        )
    return error


def require_lens(hf_model: Any, readout: Readout, run: Run) -> None:
    """Raise UnsupportedModelError where the lens of hook_resid_final is not the logits of the last position in `run`."""
    with torch.inference_mode():
        lens = readout.lens(run.reads["hook_resid_final"][-1:])
    off = float((lens - run.logits).norm() / run.logits.norm())
    if not off <= TOLERANCE.get(hf_model.dtype, 1e-4):
        raise UnsupportedModelError(
            f"final norm and unembedding of {type(hf_model).__name__} do not give its own logits (relative error {off:.1e}); "
            "it scales its output in a way that nmri3d does not know, so the logit lens would be wrong"
        )


def require_known_blocks(
    modules: ModuleMap, recording: Recording, projections: Sequence[tuple[ProjectionRows, ...]] | None = None
) -> None:
    """Raise UnsupportedModelError, naming the block and the part, where a part does not do what it should.

    Value projections are looked at where `projections` are given.
    """
    with torch.no_grad():
        for layer, block in enumerate(modules.blocks):
            x = recording.at(2 * layer)
            middle = x if modules.parallel else recording.at(2 * layer + 1)
            found = {
                "attention": (
                    attention_write(block, x[None], recording.arguments[layer])[0],
                    recording.attention[layer],
                ),
            }
            if block.mlp is not None:
                found["MLP"] = (mlp_write(block, middle[None])[0], recording.mlps[layer])
            if projections is not None:
                values = _values(block, x, projections[layer][2])
                found["value projection"] = (values, recording.values[layer])
            for name, (result, expected) in found.items():
                _require_equal(result, expected, f"the {name} of block {layer}", type(block.block).__name__)


def _values(block: Block, x: torch.Tensor, values: ProjectionRows) -> torch.Tensor:
    """Values [kv_heads, T, d_head] by the rows of the projection."""
    normed = x if block.norm_before_attn is None else block.norm_before_attn.forward(x)
    features = values.module.forward(normed)
    return features[:, values.rows.to(features.device)].transpose(0, 1)


def _require_equal(result: torch.Tensor, expected: torch.Tensor, what: str, architecture: str) -> None:
    same_shape = result.shape == expected.shape
    error = float((wide(result) - wide(expected)).norm() / wide(expected).norm()) if same_shape else float("nan")
    if not error <= BLOCK_TOLERANCE.get(expected.dtype, 1e-4):
        raise UnsupportedModelError(
            f"{what} ({architecture}) does not give by itself what it gives inside of the model (relative error {error:.1e}); "
            "it works in a way that nmri3d does not know, so scans would be wrong; choose another model"
        )
