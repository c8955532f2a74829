"""Edges of DTI: edge attribution patching, from every writer to every reader.

Convention (EAP, Syed et al. 2023; EAP-IG, Hanna et al. 2024). The score of an edge from component u to an input r is

    (w_u - b_u) . dm/dx_r     summed over positions,

with x_r the residual as input r reads it: the query, key and value input of each query head (keys and values of grouped
queries as if each query head had its own), the MLP input, and the final logits. Positive supports the target. The
scores of all edges that leave u add up to its attribution-patching score with the same gradient. EAP-IG takes the mean
of the gradient over embeddings between the corrupted and the clean prompt (midpoints of equal steps).

Cost. One forward and one backward pass a step, and for each block one attention with its backward pass. Memory: the
differences of all writes, steps x components x d_model x 4 bytes; readers are streamed by layer.

Left out: edges from constants (b_O), and from a head to the MLP of its own layer where both read the same residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nmri3d.models.backend import Metric, Progress, Stimulus, no_progress
from nmri3d.models.recording import Recording
from nmri3d.models.residual_backend import ResidualBackend
from nmri3d.perturbation.baselines import Baseline
from nmri3d.results import Tracts
from nmri3d.scans.attribution import write_deltas


@dataclass(frozen=True, eq=False)
class GradientPass:
    """A recorded pass and the gradients of the metric along its stream."""

    recording: Recording
    gradients: Sequence[torch.Tensor | None]


def integrated_passes(
    model: ResidualBackend, stimulus: Stimulus, metric: Metric, corrupt: Recording, steps: int, progress: Progress
) -> list[GradientPass]:
    """Passes at the midpoints of equal steps from the corrupted embedding to the clean one."""
    clean = model.record(stimulus).at(0)
    passes = []
    for step in range(steps):
        progress(step / steps, f"gradient {step + 1} of {steps}")
        share = (step + 0.5) / steps
        passes.append(
            GradientPass(*model.gradients(stimulus, metric, embedding=corrupt.at(0) + share * (clean - corrupt.at(0))))
        )
    return passes


def edge_attribution(
    model: ResidualBackend,
    recording: Recording,
    passes: Sequence[GradientPass],
    chosen: Baseline,
    *,
    keep: int,
    progress: Progress = no_progress,
) -> Tracts:
    """The `keep` edges of largest |score|, falling; `total` and `count` are those of all edges.

    recording is that of the clean run, whose writes leave; passes are where the gradient is taken: the clean run itself
    (EAP), or several between (EAP-IG), over which it is averaged.
    """
    table, n_layers, n_heads = model.components, model.info.n_layers, model.info.n_heads
    points = np.array([-1 if kind == "unembed" else model.entry_point(row) for row, kind in enumerate(table.kind)])
    writers = np.flatnonzero(~np.isin(table.kind, ["unembed", "attn_bias"]))
    n_steps, d_model = recording.at(0).shape
    deltas = recording.at(0).new_empty(len(writers), n_steps * d_model, dtype=torch.float32)
    filled = 0
    for rows, delta in write_deltas(model, recording, chosen):
        own = delta[:, np.isin(rows, writers)].transpose(0, 1).flatten(1)
        deltas[filled : filled + len(own)] = own
        filled += len(own)

    sources, targets, slots, scores = [], [], [], []

    def add(gradients: torch.Tensor, readers: Sequence[tuple[int, str]], point: int) -> None:
        """Edges into readers [readers, T, d_model], from all that has joined the stream at the point where they read."""
        n = int((points[writers] <= point).sum())
        found = deltas[:n] @ gradients.flatten(1).to(deltas.dtype).T
        sources.append(np.repeat(writers[:n], len(readers)))
        targets.append(np.tile([row for row, _ in readers], n))
        slots.append(np.tile([slot for _, slot in readers], n))
        scores.append(found.flatten().cpu().numpy())

    for layer in range(n_layers):
        progress(layer / n_layers, f"edges into layer {layer + 1} of {n_layers}")
        readers = [model.reader_gradients(one.recording, one.gradients, layer) for one in passes]
        heads = table.rows("head", layer).tolist()
        attention = _mean([one.attention.flatten(0, 1) for one in readers])
        add(attention, [(row, slot) for slot in "qkv" for row in heads], 2 * layer)
        assert len(heads) == n_heads
        mlp_point = 2 * layer if model.info.parallel_blocks else 2 * layer + 1
        for row in table.rows("mlp", layer).tolist():  # none in a block of attention alone
            mlp = _mean([one.mlp for one in readers])
            add(mlp[None], [(row, "mlp")], mlp_point)
    final = _mean([one.gradients[-1] for one in passes if one.gradients[-1] is not None])
    add(final[None], [(table.row("unembed"), "logits")], 2 * n_layers)
    return strongest(*(np.concatenate(column) for column in (sources, targets, slots, scores)), keep=keep)


def strongest(source: np.ndarray, target: np.ndarray, slot: np.ndarray, score: np.ndarray, *, keep: int) -> Tracts:
    """The `keep` edges of largest |score|, falling."""
    size = np.abs(score)
    order = np.argpartition(-size, keep - 1)[:keep] if keep < len(size) else np.arange(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    return Tracts(
        source=source[order].astype(np.int32),
        target=target[order].astype(np.int32),
        slot=slot[order],
        score=score[order].astype(np.float32),
        total=float(size.sum(dtype=np.float64)),
        count=len(score),
    )


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.stack(list(tensors)).mean(dim=0)
