"""A text whose society, place, topic and scene are known at every word: a hidden Markov hierarchy with a hazard a level.

At every word each level changes with its hazard, `Hierarchy.hazards`, to another value that the level above contains; where
the level above changed, the value is drawn anew. At the end of a sentence the topic changes with a probability of its own, at
the end of a paragraph the place too, at the end of a discourse the society too (`Hierarchy.at_ends`). Which *class* of word
follows depends on the last word alone (a cue announces its level); which word of the class, on the level's value alone.

Convention. A hidden state is a path (society, place, topic, scene), numbered 0 to 47. Streams start with a new discourse, all
paths alike. Values of a state are listed from level 0 (scene) to 3 (society), as in `nmri3d.phantoms.world_model.lexicon`.

Held out: every stream drawn with a seed from `HELD_OUT` on; training draws with smaller ones.
Left out: syntax beyond pairs of words, and anything said across sentences but the hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nmri3d.phantoms.world_model.lexicon import FAINT, LEVELS, MARKS, N_CLASSES, VALUES, WORD_CLASS, WORDS, words_of

HELD_OUT = 1_000_000
"""Seeds from here on are never trained on: development 1,000,000, test 2,000,000, probes 3,000,000."""

CONTAINED: tuple[tuple[tuple[int, ...], ...], ...] = (
    (),
    tuple((topic, (topic + 1) % 6) for topic in range(6)),
    tuple((place, (place + 1) % 6) for place in range(6)),
    tuple(tuple(sorted((society + step) % 6 for step in (0, 1, 3))) for society in range(4)),
)
"""CONTAINED[level][value]: values of the level below that it contains; nothing is below the scene."""


@dataclass(frozen=True)
class Hierarchy:
    """Numbers of the process.

    hazards   probability that a level changes at a word, from scene to society: so chosen that the ideal observer needs at
              least twice the evidence, in nats, from each level to the next (`nmri3d.phantoms.world_model.weight`)
    at_ends   probability that topic, place, society change at the end of their own unit
    strong    strength of a strong word by level, in nats
    medium    strength of a medium word, faint that of a faint one
    shares    how often a content word is strong, medium, faint
    """

    hazards: tuple[float, ...] = (0.25, 0.018, 0.003, 0.000005)
    at_ends: tuple[float, ...] = (0.6, 0.6, 0.6)
    strong: tuple[float, ...] = (6.5, 6.5, 6.5, 6.0)
    medium: float = 1.5
    faint: float = 0.8
    shares: tuple[float, float, float] = (0.4, 0.1, 0.5)

    @cached_property
    def paths(self) -> np.ndarray:
        """Values of every hidden state, int64 [states, levels], level 0 first."""
        return np.array(
            [
                (scene, topic, place, society)
                for society in range(len(VALUES[3]))
                for place in CONTAINED[3][society]
                for topic in CONTAINED[2][place]
                for scene in CONTAINED[1][topic]
            ]
        )

    @cached_property
    def follow(self) -> np.ndarray:
        """Probability of the next word's class given the last word's, float64 [classes, classes]; rows sum to 1."""
        content, cue, end = (0.14, 0.11, 0.07, 0.06), (0.14, 0.12, 0.09, 0.07), (0.2 * 0.7, 0.2 * 0.22, 0.2 * 0.08)
        table = np.tile(np.array([*content, *cue, *end]), (N_CLASSES, 1))
        for level in range(len(LEVELS)):
            table[4 + level] = 0.0
            table[4 + level, :4] = 0.05
            table[4 + level, level] = 0.85
        table[-len(MARKS) :, -len(MARKS) :] = 0.0
        return table / table.sum(1, keepdims=True)

    @cached_property
    def emission(self) -> np.ndarray:
        """Probability of a word given the state and the word's class, float64 [states, words]; 1 for cues and marks."""
        table = np.ones((len(self.paths), len(WORDS)))
        for level, values in enumerate(VALUES):
            strengths = (self.strong[level], self.strong[level], self.medium, self.faint)
            groups = ((0, 1), (2,), (FAINT,))
            for own in range(len(values)):
                states = self.paths[:, level] == own
                for share, group in zip(self.shares, groups, strict=True):
                    odds = np.array(
                        [[np.exp(strengths[word] * (value == own)) for word in group] for value in range(len(values))]
                    )
                    odds *= share / odds.sum()
                    for value in range(len(values)):
                        table[np.ix_(states, words_of(level, value)[list(group)])] = odds[value]
        return table

    @cached_property
    def transition(self) -> np.ndarray:
        """Probability of the next state, float64 [events, states, states]: at a word, and at the three ends."""
        scene, topic, place, society = self.hazards
        at_topic, at_place, at_society = self.at_ends
        return np.stack(
            [
                self._moves((scene, topic, place, society)),
                self._moves((scene, at_topic, place, society)),
                self._moves((scene, at_topic, at_place, society)),
                self._moves((scene, at_topic, at_place, at_society)),
            ]
        )

    def _moves(self, hazards: tuple[float, ...]) -> np.ndarray:
        table = np.zeros((len(self.paths),) * 2)
        for old, before in enumerate(self.paths):
            for new, after in enumerate(self.paths):
                chance, fresh = 1.0, False
                for level in reversed(range(len(LEVELS))):
                    choices = len(VALUES[3]) if level == 3 else len(CONTAINED[level + 1][after[level + 1]])
                    if fresh:
                        chance /= choices
                    elif before[level] == after[level]:
                        chance *= 1 - hazards[level]
                    else:
                        chance *= hazards[level] / (choices - 1)
                        fresh = True
                table[old, new] = chance
        return table

    def threshold(self, level: int) -> float:
        """Prior against a change at a word, in nats: ln((n - 1)(1 - h) / h), n values that the level above contains."""
        choices = len(VALUES[3]) if level == 3 else len(CONTAINED[level + 1][0])
        hazard = self.hazards[level]
        return float(np.log((choices - 1) * (1 - hazard) / hazard))


def event_of(tokens: np.ndarray) -> np.ndarray:
    """Which transition a token brings: 0 for a word, 1 to 3 for the end of a sentence, paragraph, discourse."""
    return np.maximum(WORD_CLASS[tokens] - (N_CLASSES - len(MARKS)) + 1, 0)


@dataclass(frozen=True, eq=False)
class Streams:
    """Text and truth: tokens int64 [streams, length], states int64 [streams, length] (the state that spoke the token)."""

    tokens: np.ndarray
    states: np.ndarray


def sample(hierarchy: Hierarchy, streams: int, length: int, seed: int) -> Streams:
    """Draw streams; the same seed gives the same text."""
    random = np.random.default_rng(seed)
    n_states = len(hierarchy.paths)
    follow, emission, transition = (
        np.cumsum(table, -1) for table in (hierarchy.follow, _by_class(hierarchy), hierarchy.transition)
    )
    tokens, states = np.empty((2, streams, length), dtype=np.int64)
    state = random.integers(n_states, size=streams)
    kind = np.full(streams, N_CLASSES - 1)
    for step in range(length):
        kind = _draw(follow[kind], random)
        event = np.maximum(kind - (N_CLASSES - len(MARKS)) + 1, 0)
        state = _draw(transition[event, state], random)
        tokens[:, step] = _draw(emission[state, kind], random)
        states[:, step] = state
    return Streams(tokens, states)


def _by_class(hierarchy: Hierarchy) -> np.ndarray:
    """Probability of a word given state and class, [states, classes, words]."""
    return hierarchy.emission[:, None] * (np.arange(N_CLASSES)[:, None] == WORD_CLASS)


def _draw(cumulative: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One choice a row of cumulative probabilities."""
    return (random.random((len(cumulative), 1)) * cumulative[:, -1:] > cumulative).sum(1)
