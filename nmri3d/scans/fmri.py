"""fMRI, functional Model Resonance Imaging: what each component writes at each token of a prompt.

Component c writes a vector w_c[p] of length d_model into the residual stream at position p (`nmri3d.models.writes`).
Values, by `aggregation`:

    l2_norm  ||w_c[p]||, Euclidean norm
    max      largest absolute entry
    mean     mean absolute entry
    raw      as l2_norm, and the whole writes in details["writes"], float32 [steps, components, d_model]

The writes add up to the residual stream, their norms do not: components cancel. `unembed` writes nothing and is NaN. In a
network without a residual stream the same is measured of each part's activation, of whatever width; the activation of a
single unit keeps its sign (l2_norm, raw), and a part that acts before the first step is NaN at all others. With
`level="neuron"` the values are the signed activations of the MLP neurons after the nonlinearity (gated MLPs: after the
gate), aligned to the neuron table.

Cost: one forward pass of the body; the unembedding is skipped, and writes are reduced inside the hooks.
Does not show what a component's write does to the answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, Reduction, Stimulus, no_progress
from nmri3d.models.checks import require_choice, require_indices, require_layers
from nmri3d.models.provenance import provenance
from nmri3d.models.residual_backend import require
from nmri3d.models.unit_backend import activity_units
from nmri3d.results import Scan
from nmri3d.scans.neurons import neuron_activations


class Aggregation(NamedTuple):
    """How a write becomes a number, and the unit of that number in words."""

    reduction: Reduction
    units: str


AGGREGATIONS = {
    "l2_norm": Aggregation("l2_norm", "L2 norm of the write"),
    "max": Aggregation("max", "largest |entry| of the write"),
    "mean": Aggregation("mean", "mean |entry| of the write"),
    "raw": Aggregation("whole", "L2 norm of the write"),
}
LEVELS = ("component", "neuron")


@dataclass(frozen=True, kw_only=True)
class FmriConfig:
    """Options of an fMRI scan; `layers` and `positions` None means all, negative numbers count from the end."""

    aggregation: str = "l2_norm"
    layers: Sequence[int] | None = None
    positions: Sequence[int] | None = None
    level: str = "component"

    def __post_init__(self) -> None:
        require_choice("aggregation", self.aggregation, tuple(AGGREGATIONS))
        require_choice("level", self.level, LEVELS)
        if self.level == "neuron" and self.aggregation not in ("l2_norm", "raw"):
            raise InputError("a neuron's activation is one number, so it takes no aggregation; leave it out")
        for name in ("layers", "positions"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
                raise InputError(f"{name} is a list of whole numbers, or None for all; got {value!r}")
            object.__setattr__(self, name, tuple(value))
            if not getattr(self, name):
                raise InputError(f"{name} is an empty list, so there is nothing to scan; leave it out for all")


def scan_fmri(model: Backend, prompt: str, config: FmriConfig, *, progress: Progress = no_progress) -> Scan:
    """Return a Scan with float32 values [steps, components] (or [steps, neurons]).

    details: position int64 [steps]; special bool [steps], tokens that the tokenizer added; residual float32
    [layers + 1, steps], L2 norm of the residual stream entering each block and, last, before the final norm (component
    level only, and only where there is one).
    """
    layers = require_layers(model, config.layers)
    return measure_fmri(model, model.stimulus(prompt), config, layers, progress=progress)[0]


def measure_fmri(
    model: Backend,
    stimulus: Stimulus,
    config: FmriConfig,
    layers: frozenset[int] | None = None,
    *,
    last_logits: bool = False,
    progress: Progress = no_progress,
) -> tuple[Scan, np.ndarray | None]:
    """The scan of a stimulus, and the logits float32 [d_vocab] after its last step from the same pass where asked for."""
    started = time.perf_counter()
    layers = require_layers(model, config.layers) if layers is None else layers
    logits = None
    n_steps = len(stimulus)
    positions = range(n_steps) if config.positions is None else config.positions
    chosen = np.array(require_indices("position", positions, n_steps, "the prompt"), dtype=np.int64)
    details = {"position": chosen, "special": stimulus.special[chosen]}

    if config.level == "neuron":
        require(model, "neurons")
        values = neuron_activations(model, stimulus, layers, progress=progress)
        components, units, signed = model.neurons, "activation after the nonlinearity", True
    else:
        reduction, units = AGGREGATIONS[config.aggregation]
        has_stream, signed = "residual" in model.abilities, False
        plan = model.write_plan(reduction, layers)
        residual = dict.fromkeys(_residual_sites(model), _norm) if has_stream else {}
        run = model.run(stimulus, {**plan.reads, **residual}, logits=[-1] if last_logits else None, progress=progress)
        values = plan.collect(run)
        logits = run.logits[0].cpu().numpy() if last_logits else None
        if config.aggregation == "raw":
            details["writes"] = values[chosen]
        if has_stream:
            details["residual"] = torch.stack([run.reads[site].cpu() for site in residual]).numpy()[:, chosen]
            values = np.linalg.norm(values, axis=-1) if config.aggregation == "raw" else values
        else:
            units, signed = activity_units(model, reduction)
            values = model.write_plan("l2_norm", layers).collect(run) if config.aggregation == "raw" else values
        components = model.components
    progress(1.0, "done")
    record = {
        "aggregation": config.aggregation if config.level == "component" else None,
        "layers": None if config.layers is None else sorted(layers),
        "positions": None if config.positions is None else chosen.tolist(),
        "level": config.level,
    }
    scan = Scan(
        mode="fMRI",
        values=values if config.positions is None else values[chosen],
        units=units,
        components=components,
        tokens=tuple(stimulus.labels[position] for position in chosen),
        provenance=provenance(model, started, record, stimulus.text),
        signed=signed,
        step_axis=model.step_axis,
        details=details,
    )
    return scan, logits


def _norm(residual: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(residual, dim=-1, dtype=torch.float32)


def _residual_sites(model: Backend) -> list[str]:
    """Sites of the residual stream, in the order in which it passes them."""
    return [f"blocks.{layer}.hook_resid_pre" for layer in range(model.info.n_layers)] + ["hook_resid_final"]
