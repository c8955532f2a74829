"""Working memory: slots that modules write to; the adaptive one judges importance and hands out free slots.

Convention. A slot holds a vector. Usage, 0 to 1 a slot, says how full it is. The next slot to be handed out is the first
free one: `(1 - u_i) * product of u_j over j < i` (the allocation of the differentiable neural computer, Graves et al. 2016,
with slots in fixed order), sharpened by a learned power; when all are full, the least important one. A write raises usage
by its importance, which a scorer reads from the step; so a cue that is not worth keeping takes no slot. Usage belongs to the
place, not to what is there: it never falls, an evicted slot keeps that of what it held, and moving what slots hold does not
move it. Every slot is drawn
toward the nearest of a few learned prototypes, by a learned share (memory compression): errors do not pile up over many
steps.

Left out: what is written (`nmri3d.phantoms.biohama.modules`).
"""

from __future__ import annotations

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

NOISE = 0.3
"""Standard deviation of the noise on a slot in training, as a share of the slot's root mean square."""

_EVICTION = 8.0
"""How strongly less important slots are preferred when all are full."""

STEEP = 4.0
"""Addresses are read from their parameters times this: an update of Adam moves a parameter by about the learning rate, and a
logit has to go further than a weight."""


def address(parameter: torch.Tensor) -> torch.Tensor:
    """Shares of the slots, of a learned parameter [..., slots]; they sum to 1."""
    return (STEEP * parameter).softmax(dim=-1)


class WorkingMemory(nn.Module):
    """Plain slots: the input itself says where an allocated write goes.

    `hook_write` passes how strongly each slot is written, [batch, slots]; `hook_slots` the slots, [batch, slots, width].
    """

    def __init__(self, slots: int, width: int, prototypes: int) -> None:
        super().__init__()
        self.start = nn.Parameter(0.1 * torch.randn(slots, width))
        self.address = nn.Linear(width, slots)
        self.prototypes = nn.Parameter(torch.randn(prototypes, width))
        self.sharpness = nn.Parameter(torch.tensor(0.0))
        self.pull = nn.Parameter(torch.tensor(-3.0))
        self.hook_write = HookPoint()
        self.hook_slots = HookPoint()

    def fresh(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots [batch, slots, width] and usage [batch, slots] before the first step."""
        return self.start.expand(batch, -1, -1), self.start.new_zeros(batch, len(self.start))

    def allocate(self, step: torch.Tensor, usage: torch.Tensor) -> torch.Tensor:
        """Where an allocated write goes, [batch, slots], sums to 1."""
        return self.address(step).softmax(dim=1)

    def write(
        self, slots: torch.Tensor, usage: torch.Tensor, change: torch.Tensor, strength: torch.Tensor, step: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots and usage after a change [batch, slots, width] of the given strength [batch, slots].

        In training, noise is added to the slots, so that what is learned withstands small errors and they do not add up.
        """
        strength = self.hook_write(strength)
        changed = slots + change
        if self.training:
            size = changed.detach().pow(2).mean(dim=2, keepdim=True).sqrt()
            changed = changed + NOISE * size * torch.randn_like(changed)
        return self.hook_slots(self._compressed(changed)), self._used(usage, strength, step)

    def _used(self, usage: torch.Tensor, strength: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return usage

    def _compressed(self, slots: torch.Tensor) -> torch.Tensor:
        if not len(self.prototypes):
            return slots
        nearest = (torch.exp(self.sharpness) * slots @ self.prototypes.T).softmax(dim=2) @ self.prototypes
        return torch.lerp(slots, nearest, torch.sigmoid(self.pull))


class AdaptiveWorkingMemory(WorkingMemory):
    """Importance of what is written, and slots handed out as they are needed."""

    def __init__(self, slots: int, width: int, prototypes: int) -> None:
        super().__init__(slots, width, prototypes)
        del self.address  # the allocator takes its place
        self.importance = nn.Linear(width, 1)
        self.choosing = nn.Parameter(torch.tensor(1.0))
        nn.init.constant_(self.importance.bias, 3.0)

    def allocate(self, step: torch.Tensor, usage: torch.Tensor) -> torch.Tensor:
        """The first free slot; when all are full, the one of least usage."""
        full = usage.cumprod(dim=1)
        before = torch.cat([torch.ones_like(full[:, :1]), full[:, :-1]], dim=1)
        evicted = (-_EVICTION * usage).softmax(dim=1)
        wanted = (1 - usage) * before + full[:, -1:] * evicted
        # the power, made to sum to 1, by way of logarithms: itself it is 0 for every slot once it is large
        return (torch.exp(self.choosing) * wanted.clamp(min=1e-6).log()).softmax(dim=1)

    def _used(self, usage: torch.Tensor, strength: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return usage + (1 - usage) * torch.sigmoid(self.importance(step)) * strength
