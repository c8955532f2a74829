"""The modules: each proposes a change of working memory and says something.

Convention. Every module has its own weights of the same shape, kept in one tensor with the modules as first axis. At each step
each module proposes; the router's gates decide what counts. A proposal is

    mixed    slots rewired: slot i takes what slot j holds, by the module's own wiring (softmax over j), which
             the step can steer
    written  mixed, overwritten by a candidate (an MLP of the slot, the step and what was retrieved) as strongly as the module
             writes there: by its own mask, or where the allocator points
    says     an MLP of one slot that it reads, of the step and of what was retrieved

Modules do not see what attention found: that steers the router. So what is answered has to pass through memory, which goes on
working when programs get longer; a network that could answer from attention did, and its lists were never moved.

A module's activation is its change of all slots and what it says, before the gates: [batch, modules, slots * width + width].

Left out: modules of different shapes; modules that come, go and specialize (`growth`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.phantoms.biohama.memory import STEEP, address

_KEPT = 4.0
"""Logit by which a slot first prefers what it holds: without it a few steps blur all slots, and no gradient comes back."""

_SPARING = -2.0
"""Logit by which a module first overwrites a slot of its own accord: seldom, for the same reason."""


class Proposals(NamedTuple):
    """Changes [batch, modules, slots, width], write strengths [batch, modules, slots], sayings [batch, modules, width], and
    by how much each module's wiring is blurred, [batch, modules]: entropy of where a slot takes from, nats, mean over slots."""

    changes: torch.Tensor
    strengths: torch.Tensor
    says: torch.Tensor
    blur: torch.Tensor


class Modules(nn.Module):
    """All modules at once; `hook_out` passes their activations."""

    def __init__(self, modules: int, slots: int, width: int, hidden: int) -> None:
        super().__init__()

        def matrix(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(modules, rows, columns) / rows**0.5)

        self.wiring = nn.Parameter((_KEPT * torch.eye(slots) + torch.randn(modules, slots, slots)) / STEEP)
        self.steering = nn.Parameter(0.05 * torch.randn(modules, width, slots * slots))
        self.mask = nn.Parameter((_SPARING + 0.5 * torch.randn(modules, slots)) / STEEP)
        self.allocated = nn.Parameter(torch.randn(modules) / STEEP)
        self.slot_in = matrix(width, hidden)
        self.input_in = matrix(2 * width, 2 * hidden)  # to the candidate's hidden units and to those of what is said
        self.input_bias = nn.Parameter(torch.zeros(modules, 1, 2 * hidden))
        self.slot_out = matrix(hidden, width)
        self.read = nn.Parameter(torch.randn(modules, slots) / STEEP)
        self.read_in = matrix(width, hidden)
        self.say_out = matrix(hidden, width)
        self.hook_out = HookPoint()

    def forward(self, slots: torch.Tensor, inputs: torch.Tensor, allocation: torch.Tensor) -> Proposals:
        """Proposals for slots [batch, slots, width]; inputs [batch, 2 * width], the step and what was retrieved."""
        batch, n_slots, width = slots.shape
        modules = len(self.wiring)
        steered = (inputs[:, :width] @ self.steering).view(modules, batch, n_slots, n_slots)
        wiring = address(self.wiring[:, None] + steered)
        from_inputs = inputs @ self.input_in + self.input_bias  # [modules, batch, 2 * hidden]
        for_slots, for_saying = from_inputs.chunk(2, dim=2)
        mixed = torch.matmul(wiring, slots)  # [modules, batch, slots, width]
        hidden = (mixed.flatten(1, 2) @ self.slot_in).view(modules, batch, n_slots, -1)
        hidden = torch.relu(hidden + for_slots[:, :, None])
        candidate = (hidden.flatten(1, 2) @ self.slot_out).view_as(mixed)
        share = torch.sigmoid(STEEP * self.allocated)[:, None, None]
        strengths = torch.lerp(
            torch.sigmoid(STEEP * self.mask)[:, None], allocation[None], share
        )  # [modules, batch, slots]
        changes = torch.lerp(mixed, candidate, strengths[..., None]) - slots
        looked = torch.einsum("ms,bsd->mbd", address(self.read), slots)
        says = torch.relu(for_saying + looked @ self.read_in) @ self.say_out
        active = self.hook_out(torch.cat([changes.flatten(2), says], dim=2).transpose(0, 1))
        return Proposals(
            active[:, :, :-width].unflatten(2, (n_slots, width)),
            strengths.transpose(0, 1),
            active[:, :, -width:],
            -(wiring * (wiring + 1e-9).log()).sum(dim=3).mean(dim=2).T,
        )
