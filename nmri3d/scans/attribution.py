"""Node scores of DTI: how much of the metric each component is answerable for.

Convention. m is the logit of the target minus that of the foil at one position. Positive supports the target. w_c is what
component c writes, b_c what replaces it (`nmri3d.perturbation.baselines`).

    dla    direct logit attribution: the linear part of the readout, the final norm's scale frozen, applied to w_c at that
           position. Adds up, over all rows, to the logit difference before any final softcap; `unembed` holds the constant
           of the biases. What a component does through later components is not in it.
    atp    attribution patching (Nanda 2023): sum over positions of (w_c - b_c) . dm/dw_c at the clean run. First order.
    exact  m(clean) - m(clean with w_c replaced by b_c): the intervention itself (`nmri3d.perturbation.sweep`), sign turned.

Left out: integrated gradients over nodes (their edges are in `nmri3d.scans.edges`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from nmri3d.models.recording import Recording
from nmri3d.models.residual_backend import ResidualBackend
from nmri3d.perturbation.baselines import Baseline
from nmri3d.perturbation.metric import LogitDifference


def direct_logit_attribution(model: ResidualBackend, recording: Recording, metric: LogitDifference) -> np.ndarray:
    """Float32 [components]; the sum over all rows is the logit difference before any final softcap."""
    tokens = torch.tensor([metric.target, metric.foil])
    readout = model.direct_logits(recording, tokens, metric.position)
    direction = readout.directions[0] - readout.directions[1]
    table = model.components
    values = np.zeros(len(table), dtype=np.float64)
    values[table.row("embed")] = float(model.writes(recording, table.row("embed"))[metric.position] @ direction)
    for layer in range(model.info.n_layers):
        rows, writes = model.layer_writes(recording, layer)
        values[rows] = (writes[metric.position] @ direction.to(writes.device)).double().cpu().numpy()
    values[table.kind == "unembed"] = float(readout.constant[0] - readout.constant[1])
    return values.astype(np.float32)


def attribution_patching(
    model: ResidualBackend, recording: Recording, gradients: Sequence[torch.Tensor | None], chosen: Baseline
) -> np.ndarray:
    """Float32 [steps, components]: (w_c - b_c) . dm/dw_c at each position; NaN for `unembed`."""
    values = np.full((len(recording), len(model.components)), np.nan, dtype=np.float32)
    for rows, deltas in write_deltas(model, recording, chosen):
        for columns, point in _by_point(model, rows):
            gradient = gradients[point]
            assert gradient is not None
            found = torch.einsum("trd,td->tr", deltas[:, columns], gradient.to(deltas.dtype))
            values[:, rows[columns]] = found.cpu().numpy()
    return values


def write_deltas(
    model: ResidualBackend, recording: Recording, chosen: Baseline
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Rows and w_c - b_c, float32 [steps, rows, d_model]: first the embedding, then layer by layer."""
    embed = model.components.row("embed")
    writes = model.writes(recording, embed)
    yield np.array([embed]), (writes - chosen.embed(model, writes))[:, None]
    for layer in range(model.info.n_layers):
        rows, writes = model.layer_writes(recording, layer)
        yield rows, writes - chosen.layer(model, layer, writes)


def _by_point(model: ResidualBackend, rows: np.ndarray) -> list[tuple[np.ndarray, int]]:
    points = np.array([model.entry_point(int(row)) for row in rows])
    return [(np.flatnonzero(points == point), int(point)) for point in np.unique(points)]
