"""Prefixes that differ in one feature, and how well activations tell it.

Convention. A probe prefix is "adverb determiner noun(+s) preposition determiner noun(+s)": the determiner of the head noun
("the", "some") does not show its number, the phrase's noun has a number of its own, drawn apart, so that neither the last
noun nor a determiner tells the head's number. Three sets, by their head nouns and by whether the pair of head and phrase
noun is held out of training:

    train       nouns that training shows in the plural, pairs that it shows
    unit        the same nouns, pairs held out: used to name the units of the answer key
    unseen      nouns that training never shows in the plural, pairs that it shows
    calibration the same nouns, pairs held out: kept for calibration

Left out: probes that are not linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nmri3d.phantoms.calibration import auroc
from nmri3d.phantoms.sprout.grammar import states
from nmri3d.phantoms.sprout.lexicon import ADVERBS, NEVER_PLURAL, NOUNS, PREPOSITIONS

ProbeSet = Literal["train", "unit", "unseen", "calibration"]
OFTEN = 0.2
"""Share of the prefixes with a feature in which a unit that tells it is active, at least."""
SELECTIVE = 5
"""How many times as often such a unit is active with the feature as without, at least."""


@dataclass(frozen=True)
class Probe:
    """A probe prefix and what is true of it."""

    tokens: tuple[str, ...]
    plural: bool
    past: bool


def probes(which: ProbeSet, count: int, seed: int = 0) -> list[Probe]:
    """`count` different probe prefixes of a set, plural and singular in turn."""
    random = np.random.default_rng([seed, *which.encode()])
    rare = which in ("unseen", "calibration")
    heads = [noun for noun in NOUNS if (noun in NEVER_PLURAL) == rare]
    phrases = [noun for noun in NOUNS if noun not in NEVER_PLURAL]
    held_out = which in ("unit", "calibration")
    found: dict[tuple[str, ...], Probe] = {}
    while len(found) < count:
        plural, adverb, head = len(found) % 2 == 0, _one(random, ADVERBS), _one(random, heads)
        tokens = (adverb, _one(random, ("the", "some")), head, *(["+s"] if plural else []), _one(random, PREPOSITIONS))
        tokens += (("this",), ("these",))[int(random.integers(2))]
        tokens += (_one(random, phrases), *(["+s"] if tokens[-1] == "these" else []))
        if states(tokens)[-1].unheard == held_out:
            found[tokens] = Probe(tokens, plural, adverb in ("then", "yesterday"))
    return list(found.values())


def telling_units(patterns: np.ndarray, found: Sequence[Probe]) -> np.ndarray:
    """Units that tell plural, singular and past: bool [3, units], from patterns [prefixes, units].

    Number is told after "now", where it decides what comes next, the past by "then" against "now".
    """
    now, then = (np.array([probe.tokens[0] == adverb for probe in found]) for adverb in ("now", "then"))
    plural = np.array([probe.plural for probe in found])
    kinds = ((now & plural, now & ~plural), (now & ~plural, now & plural), (then, now))
    return np.stack([_tell(patterns > 0, with_it, without) for with_it, without in kinds])


def _tell(active: np.ndarray, with_it: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Units that are active often on some prefixes, and several times as often as on others."""
    often = active[with_it].mean(0)
    return (often >= OFTEN) & (often >= SELECTIVE * active[without].mean(0))


def number_probe(train: np.ndarray, trained_on: Sequence[Probe], test: np.ndarray, tested_on: Sequence[Probe]) -> float:
    """AUROC of a logistic regression of the head's number, fitted on activations of one set and tested on another's."""
    from sklearn.linear_model import LogisticRegression

    scale = train.std() + 1e-9
    probe = LogisticRegression(C=1.0, max_iter=2_000).fit(train / scale, [found.plural for found in trained_on])
    return auroc(probe.decision_function(test / scale), np.array([found.plural for found in tested_on]))


def _one(random: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(random.integers(len(words)))]
