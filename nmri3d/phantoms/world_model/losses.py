"""What the world model learns by: one function a loss, each a mean over batch and steps, in nats where it is information.

    prediction    cross-entropy of each level's prediction with the words of its horizon: next word, sentence, paragraph, ...
    consistency   a level's prediction says what the level below predicts over the horizon: cross-entropy between the two
    stability     mean squared change of a latent from token to token, weighted by the level's number: what is above is firm
    flexibility   minus the entropy of the predictions, weighted more below: what is below stays open
    separation    share of a latent's variance that lasts over the horizon of the level above: what lasts is to be held there
    bottleneck    rate of the messages between levels: KL of a Gaussian message, of the model's noise, to a standard one
    contrastive   InfoNCE: two latents of a level within its horizon belong together, those of other texts do not
    depth_cost    mean of the depth gates: levels above are asked only where they pay

Nothing here sees the hidden states of the corpus. Sources: A. Alemi et al., "Deep variational information bottleneck" (2017);
A. van den Oord et al., "Representation learning with contrastive predictive coding" (2018).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from nmri3d.phantoms.world_model.lexicon import WORDS
from nmri3d.phantoms.world_model.model import Config, Trace, WorldModel


def total(model: WorldModel, tokens: torch.Tensor, guidance: float = 1.0) -> torch.Tensor:
    """Weighted sum of all losses on tokens int64 [batch, steps + 1], a scalar; `guidance` weighs all but the next word's."""
    config = model.config
    trace = model.unroll(tokens[:, :-1])
    bags = model.bags(trace)
    by_level = prediction(config, trace, bags, tokens)
    parts = {
        "consistency": consistency(config, trace, bags),
        "stability": stability(trace),
        "flexibility": flexibility(trace, bags),
        "separation": separation(config, trace),
        "bottleneck": bottleneck(config, trace),
        "contrastive": contrastive(config, trace),
        "depth_cost": depth_cost(trace),
    }
    weighted = [weight * level for weight, level in zip(config.level_weights, by_level, strict=False)]
    weighted += [getattr(config, name) * value for name, value in parts.items()]
    return weighted[0] + guidance * sum(weighted[1:], weighted[0].new_zeros(()))


def prediction(config: Config, trace: Trace, bags: list[torch.Tensor], tokens: torch.Tensor) -> list[torch.Tensor]:
    """Cross-entropy of each active level with the words that follow; tokens int64 [batch, steps + 1]."""
    losses = [functional.cross_entropy(trace.logits.flatten(0, 1), tokens[:, 1:].flatten())]
    words = functional.one_hot(tokens[:, 1:], len(WORDS)).float()
    for bag, horizon in zip(bags, config.horizons[1:], strict=False):
        losses.append(-(ahead(words, horizon) * bag).sum(-1).mean())
    return losses


def ahead(values: torch.Tensor, horizon: int) -> torch.Tensor:
    """Mean over the next `horizon` steps, this one included and as far as there are any: [batch, steps, n]."""
    steps = values.shape[1]
    sums = functional.pad(values.cumsum(1), (0, 0, 1, 0))
    end = torch.arange(steps).add(horizon).clamp(max=steps)
    return (sums[:, end] - sums[:, :-1]) / (end - torch.arange(steps))[:, None]


def consistency(config: Config, trace: Trace, bags: list[torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of each level's prediction with what the level below predicts over the horizon."""
    below = [trace.logits.softmax(-1).detach(), *(bag.exp().detach() for bag in bags)]
    terms = [
        -(ahead(lower, horizon) * bag).sum(-1).mean()
        for lower, bag, horizon in zip(below, bags, config.horizons[1:], strict=False)
    ]
    return sum(terms, trace.logits.new_zeros(()))


def stability(trace: Trace) -> torch.Tensor:
    """Mean squared change of the latents, times the number of the level."""
    terms = [level * latent.diff(dim=1).square().mean() for level, latent in enumerate(trace.latents)]
    return sum(terms, trace.logits.new_zeros(()))


def flexibility(trace: Trace, bags: list[torch.Tensor]) -> torch.Tensor:
    """Minus the entropy of each level's prediction, halved from level to level."""
    logs = [trace.logits.log_softmax(-1), *bags]
    terms = [0.5**level * (log.exp() * log).sum(-1).mean() for level, log in enumerate(logs)]
    return sum(terms, trace.logits.new_zeros(()))


def separation(config: Config, trace: Trace) -> torch.Tensor:
    """Variance over texts of each latent's mean over the horizon of the level above, by its whole variance; summed."""
    terms = []
    for latent, horizon in zip(trace.latents[:-1], config.horizons[1:], strict=False):
        lasting = ahead(latent, horizon)[:, : max(latent.shape[1] - horizon, 1)]
        terms.append(lasting.var(0).mean() / (latent.flatten(0, 1).var(0).mean() + 1e-6))
    return sum(terms, trace.logits.new_zeros(()))


def bottleneck(config: Config, trace: Trace) -> torch.Tensor:
    """KL(N(message, noise^2) || N(0, 1)), summed over units, without what does not depend on the message."""
    if not trace.messages or config.noise == 0:
        return trace.logits.new_zeros(())
    return torch.stack([0.5 * message.square().sum(-1).mean() for message in trace.messages]).sum()


def contrastive(config: Config, trace: Trace) -> torch.Tensor:
    """InfoNCE of latents a horizon apart (at most half the text), negatives from the other texts at the same step."""
    terms = []
    for latent, horizon in list(zip(trace.latents, config.horizons, strict=False))[1:]:
        steps = latent.shape[1]
        gap = min(horizon, steps // 2)
        now = functional.normalize(latent[:, steps - 1 - gap], dim=-1)
        later = functional.normalize(latent[:, steps - 1], dim=-1)
        terms.append(functional.cross_entropy(now @ later.T / 0.2, torch.arange(len(now))))
    return sum(terms, trace.logits.new_zeros(()))


def depth_cost(trace: Trace) -> torch.Tensor:
    """Mean depth gate."""
    return trace.depths.mean() if trace.depths.shape[-1] else trace.logits.new_zeros(())
