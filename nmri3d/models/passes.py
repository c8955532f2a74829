"""How a forward pass is watched: the one thing in which the backends differ.

Convention. A `Tap` sits at a place of a module and sees what passes there; what it returns goes on in its stead. Taps of
one place act in the order given, each on what the one before left. A pass calls one module of the model with keyword
arguments and leaves nothing behind, also after an error. `HookedPasses` puts PyTorch hooks on the modules;
`nmri3d.models.nnsight_passes` asks nnsight to.

Left out: what the taps do (`nmri3d.models.site_taps`, `nmri3d.models.recording`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

Act = Callable[[Any], Any]
"""Takes what passes; returns what goes on instead, or None to leave it."""


@dataclass(frozen=True, eq=False)
class Tap:
    """Something done at one place of a pass.

    place  "input": the hidden states that a module is given, with their batch axis; "arguments": its other keyword
           arguments, as a dict; "output": whatever it returns
    """

    module: nn.Module
    place: Literal["input", "arguments", "output"]
    act: Act


class Passes(Protocol):
    """Runs passes of one Hugging Face model."""

    def run(self, module: nn.Module, arguments: Mapping[str, Any], taps: Sequence[Tap]) -> None:
        """Call a module of the model, each tap in its place. Raises whatever a tap raises."""
        ...

    def gradients(self, value: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """d(value)/d(tensor) of tensors that lie one behind the other on the way to a scalar, given in that order."""
        ...


class HookedPasses:
    """Passes watched by PyTorch hooks, which cost nothing where there is no tap."""

    def run(self, module: nn.Module, arguments: Mapping[str, Any], taps: Sequence[Tap]) -> None:
        """Call a module of the model under hooks, which are removed whatever happens."""
        handles: list[Any] = []
        try:
            for tap in taps:
                handles.append(_register(tap))
            module(**arguments)
        finally:
            for handle in handles:
                handle.remove()

    def gradients(self, value: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """By `torch.autograd.grad`."""
        return list(torch.autograd.grad(value, list(tensors)))


def _register(tap: Tap) -> Any:
    if tap.place == "output":
        return tap.module.register_forward_hook(lambda module, args, output: tap.act(output))
    return tap.module.register_forward_pre_hook(
        lambda module, args, kwargs: act_on_call(tap, args, kwargs), with_kwargs=True
    )


def act_on_call(
    tap: Tap, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Let a tap of an input or of arguments act on a call; the changed call, None where nothing was changed.

    Families hand hidden states on as the first argument or as `hidden_states`.
    """
    if tap.place == "arguments":
        others = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        changed = tap.act(others)
        return None if changed is None else (args, {**kwargs, **changed})
    changed = tap.act(args[0] if args else kwargs["hidden_states"])
    if changed is None:
        return None
    return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})
