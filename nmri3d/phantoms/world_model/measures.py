"""What is measured of a trained world model, on held-out text, beside the ideal observer.

    perplexity  exp of the mean cross-entropy of the next token
    probes      share of tokens whose hidden value a linear probe names, where the ideal observer's posterior is at least SURE
    recovery    one word is replaced by a strong word of another scene: how far each latent moves from that of the untouched
                text (in standard deviations of the level), and after how many tokens the distance is half its peak
    coherence   how often a level finds the true words that it predicts likelier than those of another text (0.5: chance)
    depth       what a token's prediction loses, in nats (KL), when the levels from k on are cut off, beside what the ideal
                observer loses; the depth needed is 1 and one more for every k that loses ENOUGH or more

Left out: the weight of a level, see `nmri3d.phantoms.world_model.weight`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional

from nmri3d.phantoms.world_model.corpus import HELD_OUT, Hierarchy, Streams, sample
from nmri3d.phantoms.world_model.lexicon import CUES, LEVELS, N_CLASSES, OWN, TOKEN, VALUES, WORD_CLASS, WORDS, words_of
from nmri3d.phantoms.world_model.losses import ahead
from nmri3d.phantoms.world_model.model import Trace, WorldModel
from nmri3d.phantoms.world_model.observer import Observed, marginal, next_words, observe, without_levels
from nmri3d.phantoms.world_model.probe import Probe, fit_probe
from nmri3d.phantoms.world_model.weight import Weight, weigh

SURE = 0.99
ENOUGH = 0.05
TEST_STREAMS, TEST_LENGTH = 256, 128
PROBE_STREAMS = 768


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Test text, its truth, and what the ideal observer knows of it."""

    text: Streams
    ideal: Observed


def held_out(hierarchy: Hierarchy) -> HeldOut:
    """The test streams, the same for every network."""
    text = sample(hierarchy, TEST_STREAMS, TEST_LENGTH, 2 * HELD_OUT)
    return HeldOut(text, observe(hierarchy, text.tokens))


def development(hierarchy: Hierarchy) -> np.ndarray:
    """Tokens int64 [streams, length] that choices were made on."""
    return sample(hierarchy, TEST_STREAMS, TEST_LENGTH, HELD_OUT).tokens


@torch.no_grad()
def traced(model: WorldModel, tokens: np.ndarray) -> Trace:
    """A pass in evaluation mode over tokens int64 [streams, length]."""
    training = model.training
    model.eval()
    trace = model.unroll(torch.as_tensor(tokens))
    model.train(training)
    return trace


def fit_probes(model: WorldModel, hierarchy: Hierarchy) -> list[list[Probe]]:
    """Probe of every hidden variable in every level: [level][variable]."""
    text = sample(hierarchy, PROBE_STREAMS, 96, 3 * HELD_OUT)
    latents = traced(model, text.tokens).latents
    values = hierarchy.paths[text.states].reshape(-1, len(LEVELS))
    return [
        [fit_probe(latent.flatten(0, 1), values[:, variable], len(VALUES[variable])) for variable in range(len(LEVELS))]
        for latent in latents
    ]


def probe_accuracy(hierarchy: Hierarchy, probes: list[list[Probe]], trace: Trace, test: HeldOut) -> dict[str, Any]:
    """Accuracy [level][variable] where the ideal observer is sure of the variable, and how many tokens these are."""
    values = hierarchy.paths[test.text.states]
    sure = [marginal(hierarchy, test.ideal.belief, variable).max(-1) >= SURE for variable in range(len(LEVELS))]
    accuracy = [
        [
            float((probe(latent)[known] == values[..., variable][known]).mean())
            for variable, (probe, known) in enumerate(zip(row, sure, strict=True))
        ]
        for row, latent in zip(probes, trace.latents, strict=True)
    ]
    return {
        "accuracy": accuracy,
        "own": [accuracy[level][level] for level in range(len(LEVELS))],
        "tokens": [int(known.sum()) for known in sure],
    }


def weights_of(
    model: WorldModel, hierarchy: Hierarchy, probes: list[list[Probe]], streams: int = 200
) -> dict[str, Any]:
    """Evidence needed to change each level, as its own probe reads it."""

    def read(tokens: np.ndarray, level: int) -> np.ndarray:
        return probes[level][level](traced(model, tokens).latents[level])

    return as_figures(weigh(hierarchy, read, streams))


def ideal_weights(hierarchy: Hierarchy, streams: int = 200) -> dict[str, Any]:
    """Evidence that the ideal observer needs on the same streams, and ln((n - 1)(1 - h) / h)."""

    def read(tokens: np.ndarray, level: int) -> np.ndarray:
        return marginal(hierarchy, observe(hierarchy, tokens).belief, level).argmax(-1)

    threshold = [hierarchy.threshold(level) for level in range(len(LEVELS))]
    return as_figures(weigh(hierarchy, read, streams)) | {"threshold": threshold}


def as_figures(weights: tuple[Weight, ...]) -> dict[str, Any]:
    """Plain lists by level, and the growth from each level to the next."""
    nats, tokens = [weight.nats for weight in weights], [weight.tokens for weight in weights]
    return {
        "nats": nats,
        "tokens": tokens,
        "unmoved": [weight.unmoved for weight in weights],
        "growth_nats": [above / below for below, above in pairwise(nats)],
        "growth_tokens": [above / below for below, above in pairwise(tokens)],
    }


def recovery(model: WorldModel, test: HeldOut, at: int = 48) -> dict[str, list[float | None]]:
    """Peak displacement of each level, in its standard deviations, and tokens until half of it is gone (None: by the end)."""
    chosen = np.flatnonzero(WORD_CLASS[test.text.tokens[:, at]] == 0)
    calm = test.text.tokens[chosen]
    startled = calm.copy()
    random = np.random.default_rng(2 * HELD_OUT)
    for row, token in enumerate(calm[:, at]):
        others = [value for value in range(len(VALUES[0])) if token not in words_of(0, value)]
        startled[row, at] = words_of(0, int(random.choice(others)))[0]
    peaks: list[float | None] = []
    halves: list[float | None] = []
    for before, after in zip(traced(model, calm).latents, traced(model, startled).latents, strict=True):
        spread = before.flatten(0, 1).std(0).norm()
        distance = ((after - before).norm(dim=-1) / spread).mean(0)[at:]
        peak = int(distance.argmax())
        below = (distance[peak:] <= distance[peak] / 2).nonzero()
        peaks.append(float(distance[peak]))
        halves.append(float(peak + below[0, 0]) if len(below) else None)
    return {"peak": peaks, "half_after": halves}


@torch.no_grad()
def coherence(model: WorldModel, trace: Trace, test: HeldOut) -> list[float]:
    """Share of tokens at which a level finds its own words of its horizon likelier than those of the next stream, a word each.

    Tokens count where both streams have some.
    """
    words = functional.one_hot(torch.as_tensor(test.text.tokens)[:, 1:], len(WORDS)).float()
    shares = []
    for log, own, horizon in zip(model.bags(trace), OWN, model.config.horizons, strict=True):
        following = ahead(words[..., own], horizon)[:, :-horizon]
        other = following.roll(1, 0)
        scores = [(log[:, : following.shape[1]] * spoken).sum(-1) / spoken.sum(-1) for spoken in (following, other)]
        true, false = (score[(following.sum(-1) > 0) & (other.sum(-1) > 0)] for score in scores)
        shares.append(float(((true > false).float() + 0.5 * (true == false)).mean()))
    return shares


@torch.no_grad()
def cut(model: WorldModel, trace: Trace, depth: int) -> torch.Tensor:
    """Log probabilities [streams, steps, words] of predictions that only the lowest `depth` levels make."""
    above = torch.zeros(())
    logits = torch.zeros(())
    for level in reversed(range(depth)):
        expected = torch.tanh(model.predictor[level](trace.latents[level]) + above)
        asked = trace.depths[..., level - 1 : level] if level else torch.ones(())
        logits = logits + asked * model.decoder[level](expected)
        if level and model.config.top_down:
            above = asked * model.top_down[level - 1](expected)
    return logits.log_softmax(-1)


def depth_needed(model: WorldModel, hierarchy: Hierarchy, trace: Trace, test: HeldOut) -> dict[str, Any]:
    """Loss by depth, the depth needed after each cue, and agreement with the ideal observer; see the module."""
    tokens, belief = test.text.tokens, test.ideal.belief
    flat_belief, flat_token = belief.reshape(-1, belief.shape[-1]), tokens.reshape(-1)
    whole = next_words(hierarchy, flat_belief, flat_token)
    full = trace.logits.log_softmax(-1).flatten(0, 1)
    lost, lost_ideal = [], []
    for depth in range(1, len(LEVELS)):
        shallow = cut(model, trace, depth).flatten(0, 1)
        lost.append((full.exp() * (full - shallow)).sum(-1).numpy())
        fewer = next_words(hierarchy, without_levels(hierarchy, flat_belief, depth), flat_token)
        lost_ideal.append((whole * np.log((whole + 1e-30) / (fewer + 1e-30))).sum(-1))
    kinds = WORD_CLASS[flat_token]
    needed, needed_ideal = (1 + (np.stack(table) >= ENOUGH).sum(0) for table in (lost, lost_ideal))
    cues = [kinds == WORD_CLASS[TOKEN[cue]] for cue in CUES]
    content = kinds < N_CLASSES - len(CUES) - 3
    gates = trace.depths.flatten(0, 1).numpy()
    return {
        "lost": [float(values.mean()) for values in lost],
        "lost_ideal": [float(values.mean()) for values in lost_ideal],
        "agreement": [float(spearmanr(own, true)[0]) for own, true in zip(lost, lost_ideal, strict=True)],
        "depth_agreement": float(spearmanr(needed, needed_ideal)[0]) if np.ptp(needed) else None,
        "needed_after_cue": [float(needed[cue].mean()) for cue in cues] + [float(needed[content].mean())],
        "needed_after_cue_ideal": [float(needed_ideal[cue].mean()) for cue in cues]
        + [float(needed_ideal[content].mean())],
        "gate_after_cue": [[float(value) for value in gates[cue].mean(0)] for cue in cues],
    }


def perplexity(logits: torch.Tensor, tokens: np.ndarray) -> float:
    """Of the next token: logits float32 [streams, length, words] for tokens int64 [streams, length]."""
    return float(functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.as_tensor(tokens)[:, 1:].flatten()).exp())


def ideal_perplexity(test: HeldOut) -> float:
    """The least that any network can reach on average."""
    return float(np.exp(-test.ideal.next_log.mean()))
