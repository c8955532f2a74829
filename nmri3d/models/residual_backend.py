"""Networks with an additive residual stream: what they offer beyond `Backend`, and who has to do without, in words.

Convention. A component writes a vector into the stream, the writes add up to it, and the output reads it. On that rest the
logit lens, direct attribution, edges and causal traces. Points of the stream, for replays and gradients, are numbered as
`nmri3d.models.recording` says.

A network without such a stream is refused by `require_residual` in one sentence, and `refusal` gives the same sentence to
whoever shows beforehand what cannot be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import (
    Backend,
    DirectReadout,
    Metric,
    Progress,
    Readout,
    Stimulus,
    no_progress,
)

if TYPE_CHECKING:
    import torch

    from nmri3d.models.composition import Composition
    from nmri3d.models.gradients import ReaderGradients
    from nmri3d.models.recording import Recording
    from nmri3d.models.replay import StreamEdit

_NO_SPECTRA = "it has no heads whose circuits have a spectral norm; choose another statistic, such as std"
NEEDS_RESIDUAL = {
    "dla": "direct attribution has no sum of writes to split; measure with method exact or atp",
    "edges": 'there are no edges from writers to readers; measure its parts with edges="none"',
    "paths": "no path leads from one part's write to another's input; replace the parts instead (ablate_all)",
    "trace": "a causal trace has nothing to restore layer by layer; replace its parts instead (ablate_all, or a patch)",
    "lens": "there is no logit lens; FLAIR shows how far its parts are from their usual activity",
    "own_effect": "a part has no effect of its own on a logit lens; replace it and compare (perturb)",
    "attention": "it has no attention heads whose pattern could be read; fMRI shows what its parts do",
    "head_kinds": "it has no attention heads to be told apart; fMRI shows what its parts do",
    "composition": "its parts do not compose through one; lay it out by its weights or by its activity",
    "generation": "it does not write a text on; give it a stimulus of more steps",
    "ov_norm": _NO_SPECTRA,
    "qk_norm": _NO_SPECTRA,
}
"""What a network without a residual stream cannot do: why, and what to do instead."""


@runtime_checkable
class ResidualBackend(Backend, Protocol):
    """A backend whose abilities hold "residual"; see the module's first lines."""

    def record(self, stimulus: Stimulus, *, embedding: torch.Tensor | None = None) -> Recording:
        """One forward pass kept whole, to be replayed; `embedding` [steps, d_model] in place of what embed writes."""
        ...

    def writes(self, recording: Recording, row: int) -> torch.Tensor:
        """What a component wrote in a recorded pass, float32 [steps, d_model]. Raises InputError for `unembed`."""
        ...

    def layer_writes(self, recording: Recording, layer: int) -> tuple[np.ndarray, torch.Tensor]:
        """Rows of a layer, in the order of the table, and what each wrote, float32 [steps, rows, d_model]."""
        ...

    def entry_point(self, row: int) -> int:
        """The point of the stream at which a component's write joins it."""
        ...

    def replay(
        self,
        recording: Recording,
        edits: Sequence[StreamEdit],
        readout: Readout,
        *,
        step: int = -1,
        progress: Progress = no_progress,
    ) -> torch.Tensor:
        """The recorded pass with each edit by itself: what `readout` makes of the last residual at `step`, [edits, ...]."""
        ...

    def gradients(
        self, stimulus: Stimulus, metric: Metric, *, embedding: torch.Tensor | None = None
    ) -> tuple[Recording, list[torch.Tensor | None]]:
        """A recorded pass and the gradient of a metric at every point of its stream, each [steps, d_model]."""
        ...

    def reader_gradients(
        self, recording: Recording, gradients: Sequence[torch.Tensor | None], layer: int
    ) -> ReaderGradients:
        """The gradients of `gradients` split into the inputs that read: see `nmri3d.models.gradients`."""
        ...

    def reread(
        self,
        recording: Recording,
        layer: int,
        inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        heads: Sequence[int],
    ) -> torch.Tensor:
        """What some heads of a layer write, float32 [steps, heads, d_model], when their inputs read other residuals.

        inputs are those of query, key and value, [heads, steps, d_model] each; a post-norm keeps the recorded scale.
        """
        ...

    def attention_moved(
        self,
        recording: Recording,
        layer: int,
        inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        head: int,
    ) -> torch.Tensor:
        """How the whole write of an attention changes, float32 [steps, d_model], when one head reads other residuals.

        inputs as in `reread`, of that head alone; the other heads stay as recorded, a post-norm acts on what results.
        """
        ...

    def mlp_of(self, layer: int, residual: torch.Tensor) -> torch.Tensor:
        """What the MLP of a layer writes, float32 [steps, d_model], when it reads a residual [steps, d_model]."""
        ...

    def attention(self, stimulus: Stimulus, layer: int) -> np.ndarray:
        """Attention pattern of every head of a layer, float32 [heads, query, key]; rows sum to 1."""
        ...

    def direct_logits(self, recording: Recording, tokens: torch.Tensor, step: int) -> DirectReadout:
        """How the logits of k tokens at a step depend linearly on the last residual, its norm's scale frozen."""
        ...

    def lens(self, residual: torch.Tensor) -> torch.Tensor:
        """The logit lens: logits float32 [..., d_vocab] of a residual [..., d_model]; the model's own for the last one."""
        ...

    def token_logits(self, residual: torch.Tensor, tokens: torch.Tensor, *, capped: bool = True) -> torch.Tensor:
        """The logit lens of k tokens only, float32 [..., k]; before any final softcap where not `capped`."""
        ...

    def circuit_spectra(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Singular values of every head's W_V W_O and W_Q W_K^T, each [heads, d_head], descending."""
        ...

    def composition(self, progress: Progress = no_progress) -> Composition:
        """Composition scores between all components, from the weights; see `nmri3d.models.composition`."""
        ...

    def circuit_features(self, progress: Progress = no_progress) -> np.ndarray:
        """float32 [components, features]: what components of all kinds are compared by, composition included."""
        ...

    def neuron_features(self, layer: int) -> np.ndarray:
        """float32 [d_mlp, features]: what the neurons of a layer are compared by when they are laid out in its MLP's parcel.

        Raises InputError for a layer that does not exist.
        """
        ...


def refusal(model: Backend, what: str) -> str | None:
    """Why a network cannot do `what` (a key of NEEDS_RESIDUAL, or "neurons"), in a sentence with a remedy; None: it can."""
    if what == "neurons":
        return None if len(model.neurons) else f"{model.info.title} has no MLP neurons; scan its components"
    if "residual" in model.abilities:
        return None
    return f"{model.info.title} has no residual stream: {NEEDS_RESIDUAL[what]}"


def require(model: Backend, what: str) -> None:
    """Raise InputError with the sentence of `refusal` where there is one."""
    reason = refusal(model, what)
    if reason is not None:
        raise InputError(reason)


def require_residual(model: Backend, what: str) -> ResidualBackend:
    """The model, known to have a residual stream. Raises InputError with the sentence of `refusal` where it has none."""
    require(model, what)
    return cast(ResidualBackend, model)


def as_residual(model: Backend) -> ResidualBackend | None:
    """The model where it has a residual stream, else None."""
    return cast(ResidualBackend, model) if "residual" in model.abilities else None
