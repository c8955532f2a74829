"""Replay: the network run again from where it was edited, many edits as one batch.

An edit changes the residual stream at one point from one step on. All before it is as in the recorded pass: layers
below, and steps before (attention is causal), whose keys and values are taken from the recording. So edits that begin at
the same step form a batch that starts at the earliest of their points; the others join it as it rolls upward, each at its
own. Results equal those of whole passes, but for rounding.

Cost of an edit at layer l from step s on: (layers - l) / layers * (steps - s) / steps of a forward pass, at the speed of
a large batch. Memory: rows x steps x d_model x 4 bytes a batch, bounded by `BATCH_BYTES`.

Left out: encoders and other attention that looks ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch

from nmri3d.models.backend import Progress, Readout, no_progress
from nmri3d.models.blocks import attention_write, mlp_write
from nmri3d.models.progress import part
from nmri3d.models.recording import PrefixedKeysValues, Recording
from nmri3d.models.sites import ModuleMap

BATCH_BYTES = 256 << 20
"""Bytes of residual streams that are alive at once."""

CHUNK_STEPS = 512
"""Rows x steps that pass a block together: enough for a fast matrix product, few enough to stay in the cache."""


@dataclass(frozen=True, eq=False)
class StreamEdit:
    """One edit of a recorded pass.

    point    where in the stream (see `nmri3d.models.recording`)
    start    first step that changes
    delta    [steps from start on, d_model], added to the residual there; fewer rows leave the later steps alone
    setting  further points at which one step's residual write is set: (layer, "attn" | "mlp" | "resid") to
             (step, value [d_model]), as a traced window of several layers needs
    """

    point: int
    start: int
    delta: torch.Tensor
    setting: Mapping[tuple[int, str], tuple[int, torch.Tensor]] = field(default_factory=dict)


def replay(
    modules: ModuleMap,
    recording: Recording,
    edits: Sequence[StreamEdit],
    readout: Readout,
    *,
    step: int = -1,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Read the residual before the final norm at one step, once an edit: [edits, ...] as `readout` gives it.

    Raises whatever `progress` raises; an edit of a later step than the one read changes nothing and costs nothing.
    """
    n_steps, n_layers = len(recording), len(modules.blocks)
    step = range(n_steps)[step]
    unedited = readout(recording.at(2 * n_layers)[step][None])
    results = unedited.repeat(len(edits), *[1] * (unedited.ndim - 1))
    done, total = 0, max(1, sum(edit_work(edit, n_layers, step) for edit in edits))
    order = sorted(
        (i for i, edit in enumerate(edits) if edit.start <= step), key=lambda i: (edits[i].start, edits[i].point)
    )
    for start, same_start in groupby(order, key=lambda i: edits[i].start):
        rows = list(same_start)
        size = max(1, BATCH_BYTES // ((step + 1 - start) * recording.at(0).shape[-1] * 4))
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]

            work = sum(edit_work(edits[i], n_layers, step) for i in batch)
            share = part(progress, done / total, (done + work) / total)
            results[batch] = readout(_roll(modules, recording, [edits[i] for i in batch], start, step, share))
            done += work
    return results


def edit_work(edit: StreamEdit, n_layers: int, step: int) -> int:
    """Sub-layers x steps that a replay of one edit computes, what its time is proportional to."""
    return max(0, 2 * n_layers - edit.point) * max(0, step + 1 - edit.start)


def _roll(
    modules: ModuleMap, recording: Recording, edits: Sequence[StreamEdit], start: int, step: int, report: Progress
) -> torch.Tensor:
    """Roll a batch of edits, ascending by point, up to the final norm; the residual at `step`, [edits, d_model]."""
    n_layers, stop = len(modules.blocks), step + 1
    base = recording.at(0)
    stream = torch.empty(len(edits), stop - start, base.shape[-1], dtype=base.dtype, device=base.device)
    active = 0

    def join(point: int) -> None:
        nonlocal active
        while active < len(edits) and edits[active].point == point:
            row, delta = stream[active], edits[active].delta[: stop - start]
            row.copy_(recording.at(point)[start:stop])
            row[: len(delta)] += delta
            active += 1

    for layer in range(edits[0].point // 2, n_layers):
        report(layer / n_layers, f"layer {layer + 1} of {n_layers}")
        block = modules.blocks[layer]
        join(2 * layer)
        _set(stream, edits[:active], layer, "resid", start)
        # rows that join between attention and MLP have their attention already
        attended = active
        join(2 * layer + 1)
        size = max(1, CHUNK_STEPS // (stop - start))
        for first in range(0, active, size):
            chunk = slice(first, min(first + size, active))
            rows, x = edits[chunk], stream[chunk]
            waiting = max(0, min(attended - first, len(x)))
            attention = None
            if waiting:
                cache = PrefixedKeysValues(recording.keys[layer], recording.values[layer], start)
                arguments = recording.arguments[layer]
                attention = attention_write(block, x[:waiting], arguments, start, cache)
                _set(attention, rows[:waiting], layer, "attn", start)
            if modules.parallel:
                assert attention is not None
                mlp = mlp_write(block, x)
                _set(mlp, rows, layer, "mlp", start)
                x += attention
                x += mlp
                continue
            if attention is not None:
                x[:waiting] += attention
            mlp = mlp_write(block, x)
            _set(mlp, rows, layer, "mlp", start)
            x += mlp
    join(2 * n_layers)
    _set(stream, edits, n_layers, "resid", start)
    return stream[:, step - start]


def _set(values: torch.Tensor, edits: Sequence[StreamEdit], layer: int, part: str, start: int) -> None:
    """Put in the values that edits set at this place; values [rows, steps from start on, d_model], in place."""
    for row, edit in enumerate(edits):
        if (layer, part) in edit.setting:
            step, value = edit.setting[layer, part]
            values[row, step - start] = value
