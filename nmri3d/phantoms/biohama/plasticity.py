"""Hebbian learning inside the forward pass: fast weights that bind what follows each other.

Convention. A step has one code, a unit vector x_t, whether it comes before another or after it; so what is asked after one
direction can be asked after the other. A trace z remembers the steps before, fading by a learned share. At each step, with
plasticity p (read from the step, 0 to 1),

    F <- keep * F + p * (gain_plus  * x_t (x) z_{t-1}        what came before is bound to what comes now  (STDP, +)
                       - gain_minus * z_{t-1} (x) x_t)       and not the other way round                  (STDP, -)
    L <- L + rate_plus * s * F - rate_minus * (1 - s) * L    s = sigmoid((|F| - threshold) / 0.05), a synapse

F are the fast weights; L the long-term ones, to which strong synapses are consolidated (LTP) and from which weak ones fade
(LTD). The question q is read from memory and from what was said last, and is asked both ways, `(F + L) q` and `(F + L)^T q`:
what comes after it, and what came before. (Bi & Poo 2001 for the timing rule; Ba et al. 2016 for fast weights.)

Left out: plasticity that outlives an episode.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint

from nmri3d.phantoms.biohama.memory import address


class Synapses(NamedTuple):
    """Fast and long-term weights [batch, post, pre]; trace of the steps before, [batch, bindings]."""

    fast: torch.Tensor
    long_term: torch.Tensor
    trace: torch.Tensor


class Hebbian(nn.Module):
    """Fast weights; `hook_retrieved` passes what they give to the question of a step, [batch, width]."""

    def __init__(
        self, width: int, slots: int, bindings: int, *, enabled: bool, stdp: bool, consolidation: bool
    ) -> None:
        super().__init__()
        self.bindings, self.enabled, self.stdp, self.consolidation = bindings, enabled, stdp, consolidation
        self.code = nn.Linear(width, bindings, bias=False)
        self.gates = nn.Linear(width, 3)  # plasticity; share of the trace that stays; share of this step that enters it
        self.gains = nn.Parameter(torch.tensor([1.0, -1.0]))
        self.keep = nn.Parameter(torch.tensor(4.0))
        self.rates = nn.Parameter(torch.tensor([-2.0, -2.0]))
        self.threshold = nn.Parameter(torch.tensor(0.1))
        self.where = nn.Parameter(torch.eye(slots)[0])  # asks first about the slot that is handed out first
        self.question = nn.Linear(2 * width, bindings, bias=False)
        self.out = nn.Linear(2 * bindings, width)
        self.hook_retrieved = HookPoint()

    def fresh(self, batch: int) -> Synapses:
        """No bindings, no traces."""
        blank = self.gains.new_zeros
        square = blank(batch, self.bindings, self.bindings)
        return Synapses(square, square, blank(batch, self.bindings))

    def learn(self, step: torch.Tensor, synapses: Synapses) -> Synapses:
        """The synapses after a step [batch, width]."""
        if not self.enabled:
            return synapses
        fast, long_term, trace = synapses
        code = functional.normalize(self.code(step), dim=1)
        plasticity, stay, enter = torch.sigmoid(self.gates(step)).split(1, dim=1)
        plus, minus = functional.softplus(self.gains)
        change = plus * torch.einsum("bi,bj->bij", code, trace)
        if self.stdp:
            change = change - minus * torch.einsum("bi,bj->bij", trace, code)
        fast = torch.sigmoid(self.keep) * fast + plasticity[:, :, None] * change
        if self.consolidation:
            potentiation, depression = torch.sigmoid(self.rates)
            strong = torch.sigmoid((fast.abs() - self.threshold) / 0.05)
            long_term = long_term + potentiation * strong * fast - depression * (1 - strong) * long_term
        return Synapses(fast, long_term, stay * trace + enter * code)

    def retrieve(self, slots: torch.Tensor, said: torch.Tensor, synapses: Synapses) -> torch.Tensor:
        """What is bound to what memory holds and to what was said last [batch, width]; [batch, width]."""
        held = torch.einsum("s,bsd->bd", address(self.where), slots)
        question = functional.normalize(self.question(torch.cat([held, said], dim=1)), dim=1)
        weights = synapses.fast + synapses.long_term
        after = torch.einsum("bij,bj->bi", weights, question)
        before = torch.einsum("bij,bi->bj", weights, question)
        found = self.out(torch.cat([after, before], dim=1))
        return self.hook_retrieved(found if self.enabled else torch.zeros_like(found))
