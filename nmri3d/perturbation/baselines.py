"""What replaces a component's write when it is taken away: zero, the template's mean, or its write on another prompt.

Convention. `effect` is "zero", "mean" or "patch". The mean is that of the template at positions 1 and on, and leaves
position 0 as it is (see `nmri3d.perturbation.edits`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Progress, Stimulus, no_progress
from nmri3d.models.recording import Recording
from nmri3d.models.residual_backend import ResidualBackend
from nmri3d.perturbation.metric import require_same_length

EFFECTS = ("zero", "mean", "patch")


@dataclass(frozen=True, eq=False)
class Baseline:
    """Replacement of writes; `recording` of the corrupted prompt for "patch", `mean` [components, d_model] for "mean"."""

    effect: str
    recording: Recording | None = None
    mean: torch.Tensor | None = None

    def layer(self, model: ResidualBackend, layer: int, writes: torch.Tensor) -> torch.Tensor:
        """Replacements of a layer's rows, like `writes` [steps, rows, d_model]."""
        rows = model.components.rows(layer=layer)
        return self._of(rows, writes, lambda recording: model.layer_writes(recording, layer)[1])

    def embed(self, model: ResidualBackend, writes: torch.Tensor) -> torch.Tensor:
        """Replacement of the embedding's write [steps, d_model]."""
        row = model.components.row("embed")
        return self._of(row, writes, lambda recording: model.writes(recording, row))

    def _of(self, rows, writes, patched) -> torch.Tensor:  # type: ignore[no-untyped-def]  # an index, and a reader
        if self.recording is not None:
            return patched(self.recording)
        if self.mean is None:
            return torch.zeros_like(writes)
        replaced = self.mean[rows].to(writes).expand_as(writes).clone()
        replaced[0] = writes[0]
        return replaced


def require_effect(effect: str | None, corrupt: str | None) -> str:
    """The effect by name; None is "patch" where there is a corrupted prompt, else "mean". Raises InputError."""
    effect = effect or ("mean" if corrupt is None else "patch")
    if effect not in EFFECTS:
        raise InputError(f"effect is one of {', '.join(EFFECTS)}; got {effect!r}")
    if (effect == "patch") != (corrupt is not None):
        raise InputError(
            "the effect 'patch' takes writes from a corrupted prompt, so give one (corrupt=…); 'zero' and 'mean' take none"
        )
    return effect


def baseline(
    model: ResidualBackend,
    stimulus: Stimulus,
    effect: str | None,
    corrupt: str | None,
    *,
    progress: Progress = no_progress,
) -> Baseline:
    """The baseline of an effect; None is "patch" where there is a corrupted prompt, else "mean".

    Raises InputError for an unknown effect, and for a corrupted prompt that is missing, needless or of another length.
    """
    effect = require_effect(effect, corrupt)
    if corrupt is not None:
        other = model.stimulus(corrupt)
        require_same_length(model, stimulus, other)
        return Baseline(effect, recording=model.record(other))
    if effect == "mean":
        from nmri3d.template import template_of

        return Baseline(effect, mean=torch.tensor(template_of(model, progress=progress).mean))
    return Baseline(effect)
