"""SPROUT's population: units with learned signatures, of which k are active, and the messages among them.

Convention. A pattern is the activation of all n units, [batch, n]; it is all that is carried from one round to the next.
One drive vector scores every unit, and the k highest scores win:

    score_i      = signature_i . drive / sqrt(width) + bias_i   (+ own_i where the unit was active in the round before)
    activation_i = FLOOR + (1 - FLOOR) tanh(score_i - inhibition) for the k winners, 0 for all others

`inhibition` is the highest score of a loser, so that a unit enters at FLOOR and the map has no jump but that small one:
exactly k activations are above zero. Equal scores are told apart as torch.topk does, which takes k of them in any case.

A round reads the k units of largest |activation| (after edits these may be others than the winners):

    state_i    = activation_i signature_i
    message_i  = attention of state_i to the states of all k
    state_i    becomes GRU(message_i, state_i)
    own_i      = inertia activation_i + persist . new state_i
    drive      = norm(sum_i new state_i W_field), which scores all n units anew

Hook points whose natural tensor has an axis of changing units (messages, GRU) carry its root mean square over the k units,
channel by channel, and what leaves the hook rescales the tensor: unedited it is the identity, zero silences, a factor
amplifies. Before the first round they carry zeros.

In training only, a loser close to winning gets a share of the gradient of its activation (a straight-through estimate),
so that signatures which never win can learn to.

Departures from `spec/sprout.md`: activations are relative to a common inhibition instead of a sigmoid of the score, so that the
map is continuous and settles; the GRU's state is made of activation and signature each round instead of being carried beside
them, so that the pattern is the whole state and a perturbed pattern is perturbed in everything.

Left out: delays, noise, and any input after the first pattern.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint

from nmri3d.phantoms.sprout.encoder import normal, rms_norm

FLOOR = 0.05
LEAK = 0.3
"""Share of the gradient that a loser at the threshold gets in training; it falls with exp(score - inhibition)."""


def rescaled(x: Tensor, size: Tensor, edited: Tensor) -> Tensor:
    """x [batch, units, ...] of size `size` [batch, ...], made to have the size `edited`."""
    return x * (edited / size.clamp(min=1e-8))[:, None]


def size_of(x: Tensor) -> Tensor:
    """Root mean square over the units, axis 1; never quite zero, so that its gradient is finite."""
    return (x.square().mean(1) + 1e-12).sqrt()


class Selection(nn.Module):
    """The competition: a drive, and what the active units add for themselves, becomes a pattern of k active units."""

    def __init__(self, units: int, active: int, width: int) -> None:
        super().__init__()
        self.active = active
        self.signature, self.bias = normal(units, width, std=1.0), nn.Parameter(torch.zeros(units))

    def forward(self, drive: Tensor, own: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """drive [batch, width]; own [batch, k] belongs to the units `index` [batch, k]. Returns [batch, units]."""
        scores = drive @ self.signature.T * self.signature.shape[1] ** -0.5 + self.bias
        if own is not None and index is not None:
            scores = scores.scatter_add(1, index, own)
        top, winners = scores.topk(self.active + 1)
        inhibition = top[:, -1:]
        strength = FLOOR + (1 - FLOOR) * torch.tanh(top[:, :-1] - inhibition)
        pattern = torch.zeros_like(scores).scatter(1, winners[:, :-1], strength)
        if self.training:
            share = LEAK * torch.exp((scores - inhibition).clamp(max=0)).scatter(1, winners[:, :-1], 0.0)
            pattern = pattern + share - share.detach()
        return pattern


class Messages(nn.Module):
    """Attention among the active units."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        size = width // heads
        self.W_Q, self.W_K, self.W_V = (normal(heads, width, size, std=width**-0.5) for _ in range(3))
        self.W_O = normal(heads, size, width, std=width**-0.5)
        self.hook_size = HookPoint()

    def forward(self, states: Tensor) -> Tensor:
        """states [batch, k, width]; the same shape comes out."""
        q, k, v = (torch.einsum("bud,hde->bhue", states, weight) for weight in (self.W_Q, self.W_K, self.W_V))
        z = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        size = size_of(z)
        return torch.einsum("buhe,hed->bud", rescaled(z, size, self.hook_size(size)), self.W_O)

    def silence(self, batch: int) -> None:
        """The call before the first round, in which nothing is sent."""
        self.hook_size(self.W_Q.new_zeros(batch, self.W_Q.shape[0], self.W_Q.shape[2]))


class Update(nn.Module):
    """A gated recurrent unit, the same for all active units; it starts close to keeping their states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W_message, self.W_state = (normal(width, 3 * width, std=width**-0.5) for _ in range(2))
        self.b = nn.Parameter(torch.cat([torch.zeros(width), torch.full((width,), 2.0), torch.zeros(width)]))
        self.hook_size = HookPoint()

    def forward(self, messages: Tensor, states: Tensor) -> Tensor:
        """Both [batch, k, width]; returns the new states."""
        reset_m, keep_m, new_m = (messages @ self.W_message + self.b).chunk(3, -1)
        reset_s, keep_s, new_s = (states @ self.W_state).chunk(3, -1)
        keep = torch.sigmoid(keep_m + keep_s)
        new = torch.tanh(new_m + torch.sigmoid(reset_m + reset_s) * new_s)
        change = (1 - keep) * (new - states)
        size = size_of(change)
        return states + rescaled(change, size, self.hook_size(size))

    def silence(self, batch: int) -> None:
        """The call before the first round, in which nothing changes."""
        self.hook_size(self.W_state.new_zeros(batch, self.W_state.shape[0]))


class Population(nn.Module):
    """The units, their messages and the field that calls units up."""

    def __init__(self, units: int, active: int, width: int, heads: int, inertia: float) -> None:
        super().__init__()
        self.inertia = inertia
        self.selection = Selection(units, active, width)
        self.messages = Messages(width, heads)
        self.update = Update(width)
        self.W_field = nn.Parameter(torch.eye(width))
        self.persist = nn.Parameter(torch.zeros(width))
        self.hook_activation, self.hook_field = HookPoint(), HookPoint()

    def begin(self, drive: Tensor) -> Tensor:
        """The initial pattern, from the encoder's drive [batch, width]."""
        self.messages.silence(len(drive))
        self.update.silence(len(drive))
        return self.hook_activation(self.selection(self.hook_field(rms_norm(drive))))

    def round(self, pattern: Tensor) -> Tensor:
        """One round of messages and updates; pattern [batch, units] in and out."""
        index = pattern.detach().abs().topk(self.selection.active).indices
        activation = pattern.gather(1, index)[..., None]
        states = activation * F.embedding(index, self.selection.signature)
        states = self.update(self.messages(states), states)
        drive = self.hook_field(rms_norm(states.sum(1) @ self.W_field))
        own = self.inertia * activation[..., 0] + states @ self.persist
        return self.hook_activation(self.selection(drive, own, index))
