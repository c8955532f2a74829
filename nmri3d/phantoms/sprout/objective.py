"""What SPROUT is trained for.

Convention. The loss of a batch of prefixes is the sum of

    prediction    cross-entropy of the next token, mean over steps with weights that grow toward the last round
    robustness    the pattern of a step drawn at random, 26 of its 128 units swapped, runs three
                  rounds more: cross-entropy there too, and 1 - its cosine with the last pattern of the same prefix
    identity      InfoNCE: that run's last pattern must be nearer (cosine, over a temperature) to the last pattern of its own
                  prefix than to those of the other prefixes of the batch, so that attractors do not collapse into one
    convergence   squared change of the pattern in the last two rounds, over that of the first round, means over the batch

Only sampled next tokens are used, never the grammar's states.

Left out: any term that asks a unit to stand for something.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from nmri3d.phantoms.sprout.model import Sprout


@dataclass(frozen=True)
class Weights:
    """Weights of the terms, beside a prediction of weight 1; `swapped` units and the `rounds` that follow the swap."""

    robustness: float = 0.5
    identity: float = 0.3
    convergence: float = 3.0
    temperature: float = 0.05
    swapped: int = 26
    rounds: int = 3


def swap(pattern: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Silence `count` random active units of each pattern [batch, units] and give their activations to random inactive ones."""
    noise = torch.rand(pattern.shape, generator=generator)
    active = pattern > 0
    out = noise.masked_fill(~active, -1).topk(count).indices
    into = noise.masked_fill(active, -1).topk(count).indices
    moved = pattern.gather(1, out)
    return pattern.scatter(1, out, 0.0).scatter(1, into, moved)


def prediction_loss(logits: Tensor, following: Tensor) -> Tensor:
    """Cross-entropy of logits [batch, steps, vocabulary]; later steps weigh more."""
    steps = logits.shape[1]
    each = F.cross_entropy(logits.flatten(0, 1), following.repeat_interleave(steps), reduction="none")
    weight = torch.arange(1.0, steps + 1)
    return (each.view(-1, steps) * weight / weight.sum()).sum(1).mean()


def loss(model: Sprout, tokens: Tensor, following: Tensor, weights: Weights, generator: torch.Generator) -> Tensor:
    """The loss of a batch: tokens int64 [batch, tokens], the next tokens int64 [batch]."""
    patterns = model.patterns(tokens)
    logits = torch.stack([model.decoder(pattern) for pattern in patterns], 1)
    total = prediction_loss(logits, following)

    start = int(torch.randint(len(patterns), (1,), generator=generator))
    again = model.settle(swap(patterns[start], weights.swapped, generator), weights.rounds)[-1]
    cosines = F.normalize(again, dim=1) @ F.normalize(patterns[-1], dim=1).T
    total = total + weights.robustness * (
        F.cross_entropy(model.decoder(again), following) + (1 - cosines.diagonal()).mean()
    )
    total = total + weights.identity * F.cross_entropy(cosines / weights.temperature, torch.arange(len(cosines)))
    if weights.convergence:
        changes = [(after - before).square().sum(1).mean() for before, after in pairwise(patterns)]
        total = total + weights.convergence * (changes[-1] + changes[-2]) / changes[0].detach().clamp(min=1e-3)
    return total
