"""Path patching: what one edge carries, and what a circuit of edges carries, by intervention.

Convention (Wang et al. 2022; Goldowsky-Dill et al. 2023). An edge runs from a writer u to one input of a reader. To patch
it, that input alone reads the residual with w_u replaced by b_u (`nmri3d.perturbation.baselines`), all else is as in the
clean run, and what the reader then writes goes on by all ways (a post-norm acts on it as in any pass). Its effect is
m(clean) - m(patched): the exact figure that the edge's attribution approximates.

A circuit is run with every input reading, for the edges in the circuit, what their writers write in the circuit, and for
all others the baseline. `faithfulness = (m(circuit) - m(none)) / (m(clean) - m(none))`, not clamped, with m(none) that of no
edges at all (for a corrupted prompt: its metric). Constants (b_O) have no edges and are there in every circuit. A post-norm
keeps the scale of the clean run here, since the writes of a circuit come partly from a baseline that has none of its own.

Left out: paths of more than one edge by themselves.
"""

from __future__ import annotations

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.recording import Recording
from nmri3d.models.replay import StreamEdit
from nmri3d.models.residual_backend import ResidualBackend, require_residual
from nmri3d.perturbation.baselines import Baseline, baseline
from nmri3d.perturbation.metric import LogitDifference, logit_difference
from nmri3d.results import SLOTS, Tracts

SMALLEST_GAP = 1e-3
"""Logits; a prompt and its baseline that differ by less have no circuit to speak of."""

HEAD_SLOTS = ("q", "k", "v")


def verify_edge(
    model: Backend,
    prompt: str,
    source: str,
    target: str,
    slot: str,
    *,
    corrupt: str | None = None,
    effect: str | None = None,
    target_token: str | int | None = None,
    foil: str | int | None = None,
    position: int = -1,
    progress: Progress = no_progress,
) -> float:
    """Measured effect of one edge, m(clean) - m(edge patched), to be held against its attributed score.

    source, target  component ids; the target of slot "logits" is "unembed"
    effect, corrupt, target_token, foil, position   as in a DTI scan

    Raises InputError for an edge that does not exist.
    """
    whole = require_residual(model, "paths")
    stimulus = model.stimulus(prompt)
    chosen = baseline(whole, stimulus, effect, corrupt, progress=progress)
    recording = whole.record(stimulus)
    metric = logit_difference(whole, recording.at(-1), target_token, foil, position)
    return edge_effect(
        whole, recording, chosen, metric, model.components.row(source), model.components.row(target), slot
    )


def edge_effect(
    model: ResidualBackend,
    recording: Recording,
    chosen: Baseline,
    metric: LogitDifference,
    source: int,
    target: int,
    slot: str,
) -> float:
    """As `verify_edge`, of a recorded clean run; source and target are rows."""
    point = require_edge(model, source, target, slot)
    delta = _write_delta(model, recording, chosen, source).to(recording.at(0).dtype)
    clean = metric.of(recording)
    if slot == "logits":
        with torch.no_grad():
            return clean - float(metric.of_steps(recording.at(-1) - delta))
    layer = int(model.components.layer[target])
    reads, changed = recording.at(point), recording.at(point) - delta
    if slot == "mlp":
        moved = model.mlp_of(layer, changed) - model.mlp_of(layer, reads)
    else:
        inputs = [reads[None]] * 3
        inputs[HEAD_SLOTS.index(slot)] = changed[None]
        head = int(model.components.index[target])
        q, k, v = inputs
        moved = model.attention_moved(recording, layer, (q, k, v), head)
    edit = StreamEdit(model.entry_point(target), 0, moved.to(recording.at(0).dtype))
    return clean - float(model.replay(recording, [edit], metric.of_rows, step=metric.position)[0])


def require_edge(model: ResidualBackend, source: int, target: int, slot: str) -> int:
    """The point of the stream at which an edge is read. Raises InputError for one that does not exist."""
    table = model.components
    names = f"{table.ids[source]} to the {slot!r} input of {table.ids[target]}"
    if slot not in SLOTS:
        raise InputError(f"a slot is one of {', '.join(SLOTS)}; got {slot!r}")
    fits = {"mlp": "mlp", "logits": "unembed"}.get(slot, "head")
    if table.kind[target] != fits or table.kind[source] in ("unembed", "attn_bias"):
        raise InputError(
            f"there is no edge from {names}; q, k and v are inputs of heads, mlp of an MLP, logits of unembed"
        )
    layer, parallel = int(table.layer[target]), model.info.parallel_blocks
    point = 2 * model.info.n_layers if slot == "logits" else 2 * layer + (slot == "mlp" and not parallel)
    if model.entry_point(source) > point:
        raise InputError(f"there is no edge from {names}: what it reads is read before {table.ids[source]} writes")
    return int(point)


def circuit_metric(
    model: ResidualBackend,
    recording: Recording,
    chosen: Baseline,
    metric: LogitDifference,
    circuit: Tracts,
    *,
    progress: Progress = no_progress,
) -> float:
    """The metric when only the edges of a circuit carry what their writers write in it; all else is the baseline."""
    table, n_layers = model.components, model.info.n_layers
    n_rows, (n_steps, d_model) = len(table), recording.at(0).shape
    base = _baseline_stream(model, recording, chosen)
    moved = torch.zeros(n_rows, n_steps * d_model, dtype=base[0].dtype, device=base[0].device)
    embed = table.row("embed")
    moved[embed] = _write_delta(model, recording, chosen, embed).flatten().to(moved.dtype)

    def reads(target: int, slot: str, point: int) -> torch.Tensor | None:
        """What an input reads in the circuit, None where no edge leads to it."""
        sources = circuit.source[(circuit.target == target) & (circuit.slot == slot)]
        if not len(sources):
            return None
        return base[point] + moved[torch.from_numpy(sources.astype(np.int64))].sum(0).reshape(n_steps, d_model)

    for layer in range(n_layers):
        progress(layer / n_layers, f"running the circuit, layer {layer + 1} of {n_layers}")
        heads = table.rows("head", layer).tolist()
        inputs = {head: [reads(head, slot, 2 * layer) for slot in HEAD_SLOTS] for head in heads}
        active = [head for head in heads if any(one is not None for one in inputs[head])]
        if active:
            q, k, v = (
                torch.stack([base[2 * layer] if (one := inputs[head][slot]) is None else one for head in active])
                for slot in range(3)
            )
            numbers = [int(table.index[head]) for head in active]
            writes = model.reread(recording, layer, (q, k, v), numbers)
            for place, head in enumerate(active):
                own = writes[:, place] - _replacement(model, recording, chosen, head)
                moved[head] = own.flatten().to(moved.dtype)
        for mlp in table.rows("mlp", layer).tolist():  # none in a block of attention alone
            x = reads(mlp, "mlp", 2 * layer if model.info.parallel_blocks else 2 * layer + 1)
            if x is not None:
                own = model.mlp_of(layer, x) - _replacement(model, recording, chosen, mlp)
                moved[mlp] = own.flatten().to(moved.dtype)
    final = reads(table.row("unembed"), "logits", 2 * n_layers)
    with torch.no_grad():
        return float(metric.of_steps(base[2 * n_layers] if final is None else final))


def faithfulness(
    model: ResidualBackend,
    recording: Recording,
    chosen: Baseline,
    metric: LogitDifference,
    circuit: Tracts,
    *,
    progress: Progress = no_progress,
) -> tuple[float, float]:
    """Faithfulness of a circuit and the metric of no edges at all.

    NaN where clean and baseline metric differ by less than SMALLEST_GAP: their ratio would be rounding.
    """
    none = circuit_metric(model, recording, chosen, metric, circuit.pruned(0.0))
    gap = metric.of(recording) - none
    within = circuit_metric(model, recording, chosen, metric, circuit, progress=progress)
    return ((within - none) / gap if abs(gap) > SMALLEST_GAP else float("nan")), none


def _replacement(model: ResidualBackend, recording: Recording, chosen: Baseline, row: int) -> torch.Tensor:
    """b_c of a row, [steps, d_model]."""
    kind, layer = str(model.components.kind[row]), int(model.components.layer[row])
    if kind == "embed":
        return chosen.embed(model, model.writes(recording, row))
    rows, writes = model.layer_writes(recording, layer)
    return chosen.layer(model, layer, writes)[:, int(np.flatnonzero(rows == row)[0])]


def _write_delta(model: ResidualBackend, recording: Recording, chosen: Baseline, row: int) -> torch.Tensor:
    """w_c - b_c of a row, [steps, d_model]."""
    return model.writes(recording, row) - _replacement(model, recording, chosen, row)


def _baseline_stream(model: ResidualBackend, recording: Recording, chosen: Baseline) -> dict[int, torch.Tensor]:
    """The residual at each point when every component writes its baseline, constants themselves."""
    if chosen.recording is not None:
        return {p: x for p, x in enumerate(chosen.recording.stream) if x is not None}
    stream = {0: chosen.embed(model, recording.at(0))}
    x = stream[0]
    for layer in range(model.info.n_layers):
        rows, writes = model.layer_writes(recording, layer)
        constant = torch.from_numpy(model.components.kind[rows] == "attn_bias")
        replaced = torch.where(constant[:, None], writes, chosen.layer(model, layer, writes)).to(x.dtype)
        is_mlp = torch.from_numpy(model.components.kind[rows] == "mlp")
        attended = x + replaced[:, ~is_mlp].sum(1)
        stream[2 * layer + 1] = attended
        x = attended + replaced[:, is_mlp].sum(1)
        stream[2 * layer + 2] = x
    return stream
