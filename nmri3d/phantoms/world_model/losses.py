"""What the world model learns by: one function a loss, each a mean over batch and steps, in nats where it is information.

    prediction    cross-entropy of the next word, and of each level's prediction with its own words among those of its horizon
    consistency   the same with what the network as a whole expects of the next word instead of the words: levels and word agree
    stability     share of a latent's variance that changes from token to token, times the level's number: what is above is firm
    flexibility   minus the entropy of the predictions, weighted more below: what is below stays open
    separation    squared correlation of the units of different levels: what one level holds no other has to hold
    reach         how much a level says which of another level's words comes next: each speaks of its own
    bottleneck    rate of the messages between levels: KL of a Gaussian message, of the model's noise, to a standard one
    contrastive   InfoNCE: two latents of a level within its horizon belong together, those of other texts do not
    depth_cost    mean of the depth gates: levels above are asked only where they pay

Which words are a level's own is told, as the cues of the text tell it (`nmri3d.phantoms.world_model.lexicon`); the hidden
states of the corpus are not. Without it levels share what they hold as they like, and nothing is known of them (tried). A
level that must not say another's words has no use for holding what they speak of, and the next word is predicted no worse;
separation alone had to be so strong for it that prediction suffered (tried).

Sources: A. Alemi et al., "Deep variational information bottleneck" (2017); H. Barlow, "Possible principles underlying the
transformations of sensory messages" (1961), as a loss J. Zbontar et al., "Barlow twins" (2021); A. van den Oord et al.,
"Representation learning with contrastive predictive coding" (2018).
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch.nn import functional

from nmri3d.phantoms.world_model.lexicon import OWN, WORDS
from nmri3d.phantoms.world_model.model import Config, Trace, WorldModel


def total(model: WorldModel, tokens: torch.Tensor) -> torch.Tensor:
    """Weighted sum of all losses on tokens int64 [batch, steps + 1], a scalar."""
    config = model.config
    trace = model.unroll(tokens[:, :-1])
    bags = model.bags(trace)
    by_level = prediction(config, trace, bags, tokens)
    parts = {
        "consistency": consistency(config, trace, bags),
        "stability": stability(trace),
        "flexibility": flexibility(trace, bags),
        "separation": separation(trace),
        "reach": reach(model, trace),
        "bottleneck": bottleneck(config, trace),
        "contrastive": contrastive(config, trace),
        "depth_cost": depth_cost(trace),
    }
    weighted = [weight * level for weight, level in zip((1.0, *config.level_weights), by_level, strict=False)]
    weighted += [getattr(config, name) * value for name, value in parts.items()]
    return weighted[0] + sum(weighted[1:], weighted[0].new_zeros(()))


def prediction(config: Config, trace: Trace, bags: list[torch.Tensor], tokens: torch.Tensor) -> list[torch.Tensor]:
    """Of the next word, then of each active level, nats a word; tokens int64 [batch, steps + 1]."""
    words = functional.one_hot(tokens[:, 1:], len(WORDS)).float()
    return [
        functional.cross_entropy(trace.logits.flatten(0, 1), tokens[:, 1:].flatten()),
        *_of_own(config, words, bags),
    ]


def _of_own(config: Config, words: torch.Tensor, bags: list[torch.Tensor]) -> list[torch.Tensor]:
    """Cross-entropy, nats a word, of each level's prediction with its own words among `words` over its horizon."""
    losses = []
    for level, bag in enumerate(bags):
        own = ahead(words[..., OWN[level]], config.horizons[level])
        losses.append(-(own * bag).sum() / own.sum())
    return losses


def ahead(values: torch.Tensor, horizon: int) -> torch.Tensor:
    """Mean over the next `horizon` steps, this one included and as far as there are any: [batch, steps, n]."""
    steps = values.shape[1]
    sums = functional.pad(values.cumsum(1), (0, 0, 1, 0))
    end = torch.arange(steps).add(horizon).clamp(max=steps)
    return (sums[:, end] - sums[:, :-1]) / (end - torch.arange(steps))[:, None]


def consistency(config: Config, trace: Trace, bags: list[torch.Tensor]) -> torch.Tensor:
    """Cross-entropy, nats a word, of each level's prediction with its own words as the network expects them."""
    said = trace.logits.softmax(-1).detach()
    return sum(_of_own(config, said, bags), trace.logits.new_zeros(()))


def stability(trace: Trace) -> torch.Tensor:
    """Mean squared change of the latents over their variance, times the number of the level (2: a latent without memory)."""
    terms = [
        level * latent.diff(dim=1).square().mean((0, 1)).sum() / (latent.flatten(0, 1).var(0).sum() + 1e-6)
        for level, latent in enumerate(trace.latents)
    ]
    return sum(terms, trace.logits.new_zeros(()))


def flexibility(trace: Trace, bags: list[torch.Tensor]) -> torch.Tensor:
    """Minus the entropy of each level's prediction, halved from level to level."""
    logs = [trace.logits.log_softmax(-1), *bags]
    terms = [0.5**level * (log.exp() * log).sum(-1).mean() for level, log in enumerate(logs)]
    return sum(terms, trace.logits.new_zeros(()))


def separation(trace: Trace) -> torch.Tensor:
    """Sum over pairs of levels of the squared correlations of their units, by the number of units of one."""
    scaled = []
    for latent in trace.latents:
        centered = latent.flatten(0, 1) - latent.mean((0, 1))
        scaled.append(centered / (centered.square().mean(0).sqrt() + 1e-3))
    terms = [(one.T @ other / len(one)).square().sum() / one.shape[1] for one, other in combinations(scaled, 2)]
    return sum(terms, trace.logits.new_zeros(()))


def reach(model: WorldModel, trace: Trace) -> torch.Tensor:
    """Variance, nats^2, of a level's votes among the words of another level, summed over pairs of levels."""
    terms = [
        model.decoder[level](expected)[..., own].var(-1, unbiased=False).mean()
        for level, expected in enumerate(trace.expected)
        for other, own in enumerate(OWN)
        if other != level
    ]
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
