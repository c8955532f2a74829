"""The ideal observer: the exact posterior of the hidden levels, by forward filtering, and the exact next-word probabilities.

    predicted[t]  = belief[t-1] @ transition(event of token t)
    belief[t]     proportional to predicted[t] * p(token t | state)

Nothing can know more from the same text; its perplexity is a lower bound of any network's on average, and its posterior is
the evidence that the text holds. Source: L. R. Rabiner, "A tutorial on hidden Markov models" (1989), the forward pass.

Left out: smoothing (what later words say of earlier states): a network that predicts cannot know it either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.phantoms.world_model.corpus import Hierarchy, event_of
from nmri3d.phantoms.world_model.lexicon import LEVELS, N_CLASSES, VALUES, WORD_CLASS


@dataclass(frozen=True, eq=False)
class Observed:
    """What the ideal observer knows after each token.

    belief    float64 [streams, length, states], posterior after the token
    next_log  float64 [streams, length - 1], log probability, in nats, of token t + 1 given tokens up to t
    """

    belief: np.ndarray
    next_log: np.ndarray


def observe(hierarchy: Hierarchy, tokens: np.ndarray) -> Observed:
    """Filter streams of tokens, int64 [streams, length], each from the start of a discourse."""
    streams, length = tokens.shape
    n_states = len(hierarchy.paths)
    events = event_of(tokens)
    beliefs = np.empty((streams, length, n_states))
    logs = np.empty((streams, length))
    belief = np.full((streams, n_states), 1 / n_states)
    kind = np.full(streams, N_CLASSES - 1)
    for step in range(length):
        token = tokens[:, step]
        predicted = np.empty_like(belief)
        for event in np.unique(events[:, step]):
            rows = events[:, step] == event
            predicted[rows] = belief[rows] @ hierarchy.transition[event]
        belief = predicted * hierarchy.emission[:, token].T
        likelihood = belief.sum(1, keepdims=True)
        belief /= likelihood
        logs[:, step] = np.log(hierarchy.follow[kind, WORD_CLASS[token]] * likelihood[:, 0] + 1e-300)
        kind = WORD_CLASS[token]
        beliefs[:, step] = belief
    return Observed(beliefs, logs[:, 1:])


def marginal(hierarchy: Hierarchy, belief: np.ndarray, level: int) -> np.ndarray:
    """Posterior of a level's values, float64 [..., values], from a belief over states [..., states]."""
    members = hierarchy.paths[:, level][:, None] == np.arange(len(VALUES[level]))
    return belief @ members


def next_words(hierarchy: Hierarchy, belief: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Probabilities of the next token, float64 [n, words], given beliefs [n, states] after the tokens [n]."""
    predicted = belief @ hierarchy.transition[0]
    return hierarchy.follow[WORD_CLASS[token]][:, WORD_CLASS] * (predicted @ hierarchy.emission)


def without_levels(hierarchy: Hierarchy, belief: np.ndarray, depth: int) -> np.ndarray:
    """Belief of an observer that follows the lowest `depth` levels only: the levels above are as likely as at the start.

    belief [n, states]; the posterior of (levels below `depth`) is kept, and given it the rest is as under all paths alike.
    """
    if depth >= len(LEVELS):
        return belief
    _, group = np.unique(hierarchy.paths[:, :depth], axis=0, return_inverse=True)
    members = (group[:, None] == np.arange(group.max() + 1)).astype(float)
    return (belief @ members) @ (members / members.sum(0)).T
