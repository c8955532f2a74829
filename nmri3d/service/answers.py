"""What is asked of a model beside scans: the likeliest next tokens, the strongest neurons; and the checks of numbers.

Convention. Probabilities are the softmax over the whole vocabulary, in float64; signals have none. Neurons are ordered by
|activation| and keep their sign. Numbers come from people and browsers: a bool, a float or a text is refused, not converted.

Left out: caching and turns, which `nmri3d.service.core` adds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nmri3d.errors import InputError, MachineError
from nmri3d.models.backend import Backend, Progress
from nmri3d.results import Prediction

if TYPE_CHECKING:
    from nmri3d.results import TopNeuron

T = TypeVar("T")


def next_tokens(backend: Backend, prompt: str, count: int, progress: Progress) -> list[Prediction]:
    """The `count` likeliest tokens after the prompt, likeliest first; equal logits by token id.

    Of a network of signals: the values of all its outputs at the last step, in their order.
    """
    logits = backend.run(backend.stimulus(prompt), {}, logits=[-1], progress=progress).logits
    scores = _as_float64(logits)[-1]
    if backend.outputs == "signal":
        return [Prediction(backend.token_text(i), i, None, float(scores[i])) for i in range(len(scores))]
    shifted = np.exp(scores - scores.max())
    probabilities = shifted / shifted.sum()
    best = np.argsort(-scores, kind="stable")[:count].tolist()
    return [Prediction(backend.token_text(i), i, float(probabilities[i]), float(scores[i])) for i in best]


def step_outputs(backend: Backend, prompt: str, progress: Progress) -> np.ndarray:
    """Float32 [steps, outputs]: logits, or signals, at every step of a prompt."""
    stimulus = backend.stimulus(prompt)
    logits = backend.run(stimulus, {}, logits=range(len(stimulus)), progress=progress).logits
    return _as_float64(logits).astype(np.float32)


def mlp_activations(backend: Backend, prompt: str, layer: int, progress: Progress) -> np.ndarray:
    """Float32 [steps, d_mlp]: signed activations of one MLP after its nonlinearity (gated: after the gate)."""
    site = f"blocks.{layer}.mlp.hook_post"
    reads = {site: lambda post: post.float().cpu().numpy()}
    return backend.run(backend.stimulus(prompt), reads, progress=progress).reads[site]


def strongest_neurons(activations: np.ndarray, layer: int, position: int, count: int) -> list[TopNeuron]:
    """The `count` neurons with the largest |activation| in one row of [steps, d_mlp], largest first.

    Raises InputError for a position or count outside the array.
    """
    from nmri3d.scans.neurons import strongest

    steps, width = activations.shape
    row = activations[require_integer(position, "position", -steps, steps - 1)]
    return strongest(row, layer, require_integer(count, "k", 1, width))


def require_integer(value: Any, name: str, lowest: int, highest: int) -> int:
    """The value as an int within [lowest, highest]; a bool, a float and a text are refused. Raises InputError."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}") from None
    if not lowest <= number <= highest:
        raise InputError(f"{name} must be from {lowest} to {highest}, not {number}")
    return number


def naming_memory(work: Callable[[], T]) -> T:
    """Run the work; where memory ran out, say so. torch is not imported for this: its errors are known by name.

    Raises MachineError when memory ran out, and else what the work raises.
    """
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        torch_ran_out = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
        if not (isinstance(error, MemoryError) or torch_ran_out):
            raise
        raise MachineError(
            "The machine ran out of memory during this request; use a shorter prompt, or a smaller model."
        ) from error


def _as_float64(tensor: Any) -> np.ndarray:
    """A tensor of any dtype and device, or an array, as a float64 array; numpy itself cannot read bfloat16."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().float().cpu().numpy()
    return np.asarray(tensor, dtype=np.float64)
