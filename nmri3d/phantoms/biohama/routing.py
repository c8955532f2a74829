"""The router, which lets a few modules through at each step, and the adaptive one, which learns from a support set.

Convention. Gates are a softmax over the modules, of which the `active` largest are kept and made to sum to 1; the others are
exactly 0. The probabilities before that are what the training's mutual-information term is about. Without routing all gates are
equal.

How a step is routed, and how the module that it is sent to is steered, follows from the vector of its operation. The adaptive
router finds that vector, as fast weights, for an operation that it does not know, from a support set of programs and answers;
no weight changes and no task number is told:

    trial     the support set is run with the vector of each known operation in its place; the first guess is their mean,
              weighted by softmax(-gain * loss)
    gradient  a few steps downhill on the support set's loss, of meta-learned sizes

`gain` and `rates` are meta-learned, everything else stays as trained (Finn et al. 2017, MAML; Li et al. 2017, Meta-SGD;
adapting an input vector only: Zintgraf et al. 2019, CAVIA).

Left out: which support sets there are (`nmri3d.phantoms.biohama.fewshot`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint


class Router(nn.Module):
    """From the present step and its context to gates; `hook_hidden` [batch, width], `hook_gates` [batch, modules]."""

    def __init__(self, width: int, modules: int, active: int, *, routed: bool) -> None:
        super().__init__()
        self.active, self.routed = active, routed
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, modules)
        self.hook_hidden = HookPoint()
        self.hook_gates = HookPoint()

    def forward(self, step: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gates and the probabilities that they were cut from, each [batch, modules]."""
        hidden = self.hook_hidden(torch.relu(self.hidden(torch.cat([step, context], dim=1))))
        probabilities = self.out(hidden).softmax(dim=1)
        if self.routed:
            largest, which = probabilities.topk(self.active, dim=1)  # exactly so many, also where two are equal
            gates = torch.zeros_like(probabilities).scatter(1, which, largest / largest.sum(dim=1, keepdim=True))
        else:
            gates = torch.full_like(probabilities, 1 / probabilities.shape[1])
        return self.hook_gates(gates), probabilities


class AdaptiveRouter(Router):
    """A router that finds the vector of an unknown operation; `gain` [1] and `rates` [gradient steps] are meta-learned."""

    GRADIENT_STEPS = 2

    def __init__(self, width: int, modules: int, active: int, *, routed: bool) -> None:
        super().__init__(width, modules, active, routed=routed)
        self.register_buffer("gain", torch.ones(1))
        self.register_buffer("rates", torch.zeros(self.GRADIENT_STEPS))
        self.gain: torch.Tensor
        self.rates: torch.Tensor

    def adapted(
        self,
        known: torch.Tensor,
        losses: Callable[[torch.Tensor], torch.Tensor],
        meta: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The vector [width] of an unknown operation.

        known   vectors of the known operations, [operations, width]
        losses  takes vectors [n, width] and gives the mean loss of the support answers with each, [n], differentiably
        meta    gain and rates instead of the learned ones; the result is differentiable in them (first order)
        """
        gain, rates = (self.gain, self.rates) if meta is None else meta
        with torch.no_grad():
            tried = losses(known)
        vector = torch.softmax(-gain * tried, dim=0) @ known
        for rate in rates:
            at = vector.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(losses(at[None]).sum(), at)
            vector = vector - rate * gradient
        return vector
