"""The weight of a level: how much evidence, in nats and in tokens, it takes to change it.

A stream holds a state still for `SETTLE` tokens (no ends of units, so that nothing announces a change), then speaks only of
one level and only for another value of it: cue, faint word, cue, faint word, ... All other levels stay what they were, which
is possible because values that share a parent and a child are chosen. Every faint word carries `Hierarchy.faint` nats for the
new value against the old. The evidence needed is what has been given when a read-out first names another value than the old
one.

    nats    faint words given until then * faint
    tokens  tokens given until then, cues included: two a word, so that both grow alike

A level that has not changed after `LONGEST` faint words counts as needing that many, and is counted in `unmoved`.

Left out: changes of several levels at once, and evidence in strong words, whose single steps are larger than the low
thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from nmri3d.phantoms.world_model.corpus import Hierarchy, Streams
from nmri3d.phantoms.world_model.lexicon import CUES, FAINT, LEVELS, MARKS, N_CLASSES, TOKEN, WORD_CLASS, words_of

SETTLE = 64
LONGEST = 60

ReadOut = Callable[[np.ndarray, int], np.ndarray]
"""Takes tokens int64 [streams, length] and a level; returns the value named at every token, int64 [streams, length]."""


@dataclass(frozen=True)
class Weight:
    """Evidence needed to change a level: means over streams, in nats and in tokens; share of streams left unmoved."""

    nats: float
    tokens: float
    unmoved: float


def evidence_streams(hierarchy: Hierarchy, level: int, streams: int, seed: int) -> tuple[Streams, np.ndarray]:
    """Streams [streams, SETTLE + 2 LONGEST] as the module says, and the old value of each, int64 [streams]."""
    random = np.random.default_rng(seed)
    pairs = neighbors(hierarchy, level)
    chosen = pairs[random.integers(len(pairs), size=streams)]
    tokens = np.empty((streams, SETTLE + 2 * LONGEST), dtype=np.int64)
    for row, (old, new) in zip(tokens, chosen, strict=True):
        row[:SETTLE] = held_still(hierarchy, old, SETTLE, random)
        row[SETTLE::2] = TOKEN[CUES[level]]
        row[SETTLE + 1 :: 2] = words_of(level, hierarchy.paths[new, level])[FAINT]
    states = np.repeat(chosen[:, 1][:, None], tokens.shape[1], 1)
    states[:, :SETTLE] = chosen[:, :1]
    return Streams(tokens, states), hierarchy.paths[chosen[:, 0], level]


def held_still(hierarchy: Hierarchy, state: int, length: int, random: np.random.Generator) -> np.ndarray:
    """Tokens int64 [length] that one hidden state speaks, without ends of units, the last of them no cue."""
    follow = hierarchy.follow.copy()
    follow[:, -len(MARKS) :] = 0.0
    content = follow * (np.arange(N_CLASSES) < len(LEVELS))
    tokens = np.empty(length, dtype=np.int64)
    kind = N_CLASSES - 1
    for step in range(length):
        chances = (follow if step < length - 1 else content)[kind]
        kind = random.choice(N_CLASSES, p=chances / chances.sum())
        words = hierarchy.emission[state] * (kind == WORD_CLASS)
        tokens[step] = random.choice(len(words), p=words / words.sum())
    return tokens


def weigh(hierarchy: Hierarchy, read: ReadOut, streams: int = 200, seed: int = 2_000_100) -> tuple[Weight, ...]:
    """Weight of every level by a read-out, level 0 first."""
    found = []
    for level in range(len(LEVELS)):
        text, old = evidence_streams(hierarchy, level, streams, seed + level)
        after = read(text.tokens, level)[:, SETTLE:][:, 1::2] != old[:, None]
        moved = after.any(1)
        words = np.where(moved, after.argmax(1) + 1, LONGEST)
        found.append(Weight(float(words.mean() * hierarchy.faint), float(2 * words.mean()), float(1 - moved.mean())))
    return tuple(found)


def neighbors(hierarchy: Hierarchy, level: int) -> np.ndarray:
    """States that differ in one level only, int64 [pairs, 2]."""
    paths = hierarchy.paths
    others = [other for other in range(len(LEVELS)) if other != level]
    pairs = permutations(range(len(paths)), 2)
    return np.array([(old, new) for old, new in pairs if (paths[old, others] == paths[new, others]).all()])
