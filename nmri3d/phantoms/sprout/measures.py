"""SPROUT's figures on held-out data.

Convention. All are plain JSON values. A pattern's change is the mean over prefixes of the Euclidean norm of the difference of
two patterns. An attractor is the pattern after the last round; a perturbed pattern returns to its own when, among the
attractors of all test prefixes (all different), that one has the largest cosine with it. Swapped patterns are nearest to
their own before the rounds already, so that share alone shows no return; the evidence is that the cosine and the units of
their own grow. "ideal" is the expected accuracy of whoever knows the whole grammar: the mean of its largest next-token
probability.

Left out: figures of training data, but for the split "seen", whose prefixes may have occurred in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nmri3d.phantoms.sprout.baseline import PlainTransformer
from nmri3d.phantoms.sprout.lexicon import BE, STOP, SUFFIXES, TOKEN
from nmri3d.phantoms.sprout.model import FEATURES, Sprout
from nmri3d.phantoms.sprout.objective import swap
from nmri3d.phantoms.sprout.prefixes import Prefix, padded
from nmri3d.phantoms.sprout.probes import Probe, number_probe, probes

ATTRACTORS = 500
SWAPPED = 26
BATCH = 250
_KINDS = {"be": BE, "suffix": SUFFIXES, "stop": (STOP,)}


def in_batches(function: Callable[[Tensor], Tensor], prefixes: Sequence[Sequence[str]]) -> Tensor:
    """A function of token numbers applied to many prefixes, without gradients."""
    with torch.no_grad():
        return torch.cat(
            [function(padded(prefixes[start : start + BATCH])) for start in range(0, len(prefixes), BATCH)]
        )


def accuracy(logits: Tensor, prefixes: Sequence[Prefix]) -> dict[str, dict[str, float | int]]:
    """Shares of right next tokens by split, of logits [prefixes, vocabulary]; see `_scores`."""
    right = (logits.argmax(-1).numpy() == [TOKEN[prefix.following] for prefix in prefixes]).astype(float)
    return {
        split: _scores(right, prefixes, np.array([prefix.split == split for prefix in prefixes]))
        for split in ("seen", "combination", "word")
    }


def _scores(right: np.ndarray, prefixes: Sequence[Prefix], chosen: np.ndarray) -> dict[str, float | int]:
    """On determined positions (all, and where a form of be, a suffix or the stop must follow) and on all, the ideal beside."""
    determined = chosen & np.array([prefix.determined for prefix in prefixes])
    scores: dict[str, float | int] = {
        "determined": _mean(right[determined]),
        "determined positions": int(determined.sum()),
    }
    for name, tokens in _KINDS.items():
        of_kind = determined & np.array([prefix.following in tokens for prefix in prefixes])
        if of_kind.any():
            scores[f"determined, {name}"] = _mean(right[of_kind])
    ideal = np.array([max(prefix.ideal.values()) for prefix in prefixes])
    return scores | {"plain": _mean(right[chosen]), "ideal plain": _mean(ideal[chosen]), "positions": int(chosen.sum())}


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4)


def dynamics(model: Sprout, prefixes: Sequence[Prefix], seed: int) -> dict[str, object]:
    """How many units are active, how the pattern changes a round, and whether perturbed patterns return."""
    different = list({prefix.tokens: prefix for prefix in prefixes})
    random = np.random.default_rng([seed, 2])
    chosen = [different[number] for number in random.permutation(len(different))[:ATTRACTORS]]
    stacked = in_batches(lambda tokens: torch.stack(model.patterns(tokens), 1), chosen)
    counts = (stacked > 0).sum(-1)
    changes = [float((stacked[:, t + 1] - stacked[:, t]).norm(dim=1).mean()) for t in range(stacked.shape[1] - 1)]
    attractors, used = stacked[:, -1], (stacked > 0).flatten(0, 1).any(0)
    generator = torch.Generator().manual_seed(seed)
    return {
        "active units": [int(counts.min()), int(counts.max())],
        "change of the pattern by round": [round(change, 4) for change in changes],
        "change in the last round over the first": round(changes[-1] / changes[0], 4) if changes else None,
        "units active at some step of some prefix": int(used.sum()),
        "units never active on these prefixes": int((~used).sum()),
        "units active in the last round": int((attractors > 0).any(0).sum()),
        "attractors": len(chosen),
        "mean cosine of two attractors": round(_mean_cosine(attractors), 4),
        "swapped in the attractor": returns(model, attractors, attractors, generator),
        "swapped in the initial pattern": returns(model, stacked[:, 0], attractors, generator),
    }


def returns(model: Sprout, start: Tensor, attractors: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Patterns with 26 units swapped, before and after the rounds: how near each is to its own attractor."""
    perturbed = swap(start, SWAPPED, generator)
    with torch.no_grad():
        settled = torch.cat([model.settle(part, model.config.rounds)[-1] for part in perturbed.split(BATCH)])
    goals = F.normalize(attractors, dim=1)
    before, after = (F.normalize(pattern, dim=1) @ goals.T for pattern in (perturbed, settled))
    own = torch.arange(len(goals))
    return {
        "nearest to its own before the rounds": round(float((before.argmax(1) == own).float().mean()), 4),
        "nearest to its own": round(float((after.argmax(1) == own).float().mean()), 4),
        "cosine with its own before the rounds": round(float(before.diagonal().mean()), 4),
        "cosine with its own": round(float(after.diagonal().mean()), 4),
        "units of its own before the rounds": _shared_units(perturbed, attractors),
        "units of its own": _shared_units(settled, attractors),
    }


def _shared_units(patterns: Tensor, attractors: Tensor) -> float:
    return round(float(((patterns > 0) & (attractors > 0)).sum(1).float().mean()), 2)


def _mean_cosine(patterns: Tensor) -> float:
    cosines = F.normalize(patterns, dim=1) @ F.normalize(patterns, dim=1).T
    n = len(cosines)
    return float((cosines.sum() - cosines.trace()) / (n * (n - 1)))


def silencing(model: Sprout, seed: int) -> dict[str, float | int]:
    """What silencing all plural units at once does to "are" against "is", after "now" and plural nouns never seen so.

    Beside it what as many random units of those that are ever active on these prefixes do.
    """
    prefixes = [("now", *probe.tokens[1:]) for probe in probes("unseen", 200) if probe.plural]
    used = in_batches(lambda tokens: torch.stack(model.patterns(tokens)), prefixes[:BATCH]).gt(0).flatten(0, 1).any(0)
    plural = model.known[list(FEATURES).index("plural units")].bool()
    others = (used & ~plural).nonzero().flatten()
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[: int(plural.sum())]
    kept = {"as it is": plural & False, "silenced": plural, "random units silenced": torch.zeros_like(plural)}
    kept["random units silenced"][others[drawn]] = True
    prefer = {name: _preference(model, prefixes, units) for name, units in kept.items()}
    return {"units": int(plural.sum())} | {f"'are' over 'is', {name}": _mean(value) for name, value in prefer.items()}


def _preference(model: Sprout, prefixes: Sequence[Sequence[str]], silent: Tensor) -> np.ndarray:
    """1 where the last logits prefer "are" to "is" with some units silenced at every step, else 0."""
    hooks = [("population.hook_activation", lambda pattern, hook: pattern.masked_fill(silent, 0.0))]
    logits = in_batches(lambda tokens: model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1], prefixes)
    return (logits[:, TOKEN["are"]] > logits[:, TOKEN["is"]]).float().numpy()


def number_read(activations: Callable[[Sequence[Probe]], np.ndarray]) -> float:
    """AUROC of the head noun's number for nouns never seen in the plural, by a probe fitted on the others' activations.

    activations  of probe prefixes, float [prefixes, units]
    """
    train, unseen = probes("train", 600), probes("unseen", 300)
    return round(number_probe(activations(train), train, activations(unseen), unseen), 4)


def last_pattern(model: Sprout) -> Callable[[Sequence[Probe]], np.ndarray]:
    """The 4096 activations after the last round."""
    return _activations(lambda tokens: model.patterns(tokens)[-1])


def first_pattern(model: Sprout) -> Callable[[Sequence[Probe]], np.ndarray]:
    """The 4096 activations before the first round."""
    return _activations(lambda tokens: model.patterns(tokens)[0])


def pooled(model: Sprout) -> Callable[[Sequence[Probe]], np.ndarray]:
    """What the encoder hands over."""
    return _activations(model.encoder)


def plain_hidden(model: PlainTransformer) -> Callable[[Sequence[Probe]], np.ndarray]:
    """The plain transformer's normalized residual at the last token."""
    return _activations(model.hidden)


def _activations(function: Callable[[Tensor], Tensor]) -> Callable[[Sequence[Probe]], np.ndarray]:
    return lambda found: in_batches(function, [probe.tokens for probe in found]).numpy()
