"""What a phantom is: a network whose inner truth is known, and what it tells the scanner about itself.

Convention. A phantom is a plain PyTorch module with TransformerLens hook points (`HookedRootModule`, `HookPoint`). Its
components are `Part`s. A part's activation is what passes the hook point `site`: [batch, width], or [batch, parts, width] where
one hook point carries several parts of equal width (`column` says which), or [batch, n] with one unit a part (`column`
and `scalar`). A hook point is called in one of two ways, said by `once`:

    once=False   once a step, in the order of the steps (a loop over refinement rounds, tokens, task or control steps)
    once=True    once a pass, before the first step: the part is active at step 0 and nowhere else (NaN there); its tensor may
                 have an inner axis, [batch, inner, ...], over which the activation is the mean and every entry is edited

A unit network has no additive residual stream: DLA, edges and the lens are refused, interventions are exact.

Left out: how a phantom is run (`nmri3d.phantoms.backend`) and trained (`nmri3d.phantoms.training`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from transformer_lens import HookedRootModule

from nmri3d.models.backend import Stimulus

Structure = Literal["cortex", "left", "right", "cerebellum", "hippocampus"]
"""Where the parts of a kind lie: on both hemispheres, on one, on the cerebellum, or on the two hippocampi."""


@dataclass(frozen=True)
class Part:
    """A component of a phantom.

    kind, layer, index  as in `ComponentTable`; `layer` is the depth at which it stands (-1: none), and orders the brain
    site                name of the hook point that its activation passes
    column              which entry of the tensor's axis of parts is its own; None: the whole tensor
    scalar              the tensor is [batch, n], one unit a part
    rate                one unit that is never negative: a firing rate, a gate, a share
    once                see the module's first lines
    structure           where it lies in the brain
    """

    kind: str
    layer: int
    index: int
    site: str
    column: int | None = None
    scalar: bool = False
    rate: bool = False
    once: bool = False
    structure: Structure = "cortex"


@dataclass(frozen=True)
class Truth:
    """One thing that is known to be true inside a phantom.

    name        short, unique in its phantom ("number units")
    statement   what is known, in a sentence
    components  ids of the components that it is about
    known_by    "construction" (the weights were made so, or the task forces it), or measured by the trainer without any scan:
                "training" (on held-out data) or "intervention" (by silencing)
    """

    name: str
    statement: str
    components: tuple[str, ...]
    known_by: Literal["construction", "training", "intervention"]


@dataclass(frozen=True)
class Identity:
    """What a phantom is called and what its steps and outputs are.

    name       as after "phantom:" ("world-model")
    title      as shown ("World model")
    step_axis  what a step is ("refinement step")
    outputs    "logits" over a vocabulary, or "signal": physical values that no softmax is taken of
    metric     what attributions attribute, in words
    examples   stimuli that a person can try at once, the first being the default
    """

    name: str
    title: str
    step_axis: str
    outputs: Literal["logits", "signal"]
    metric: str
    examples: tuple[str, ...]


class Phantom(HookedRootModule):
    """Base of the phantoms; a subclass sets `identity` and calls `self.setup()` at the end of its `__init__`.

    config   a frozen dataclass of plain values, kept beside the weights
    """

    identity: ClassVar[Identity]
    config: Any

    @property
    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Components in the order in which they act."""

    @property
    @abstractmethod
    def output_names(self) -> Sequence[str]:
        """Text of each output: the vocabulary, or the names and units of the signals."""

    @abstractmethod
    def weights(self, part: Part) -> Mapping[str, torch.Tensor]:
        """The part's own parameters by name, as views. Over all parts each parameter entry occurs exactly once."""

    @abstractmethod
    def stimulus(self, text: str) -> Stimulus:
        """Read what a person typed. `ids` index the steps' inputs. Raises InputError that names cause and remedy."""

    @abstractmethod
    def inputs(self, stimulus: Stimulus) -> dict[str, torch.Tensor]:
        """Arguments of `forward` for one stimulus, each with a batch axis of 1; float32 or int64, on the CPU."""

    @abstractmethod
    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Outputs float32 [batch, steps, len(output_names)], steps as in the stimulus."""

    def predictions(self, **inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """All that training looks at: the outputs, and what a network predicts beside them (it says what)."""
        return (self(**inputs),)

    @abstractmethod
    def reference(self) -> Sequence[str]:
        """At least 100 varied stimuli, none held out: the template text of this phantom. Always the same."""

    @abstractmethod
    def answer_key(self) -> Sequence[Truth]:
        """What is known to be true inside, for the weights that are loaded."""

    def settings(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return asdict(self.config)
