"""What is planted in the world model and must be found by scans: which level holds, and gives, which hidden variable.

Pairs of texts are equal but for three words of one kind (scene, topic, place or society), which name another value in the
second text. The *surprise* is the difference of the two fMRI scans at the first of these words, the *change* that after a tail
of words that both texts share, both in standard deviations of the component over the texts. Levels differ in how fast they
move whatever is said, trained or not; so a component's score for a kind is by how much its difference exceeds its own mean
over the four kinds. (A quotient instead ranks what has forgotten both texts by what is left of nothing: tried on development
texts, where the score, the number of pairs and the network were chosen.)

Convention. Candidates are the groups of the levels' latents. Texts hold no end of a unit, and are drawn with held-out seeds.
Sizes of effects were fixed before the first measurement.

Left out: FLAIR, whose template of every null network would cost a hundred times the checks; T1 and T2, in which random
weights look the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nmri3d.models.backend import Backend
from nmri3d.perturbation import ablate_all
from nmri3d.phantoms.calibration import Check, Measured
from nmri3d.phantoms.world_model.corpus import HELD_OUT, Hierarchy
from nmri3d.phantoms.world_model.lexicon import CUES, LEVELS, VALUES, WORDS, words_of
from nmri3d.phantoms.world_model.model import DEPTHS
from nmri3d.phantoms.world_model.weight import held_still, neighbors
from nmri3d.scans import scan

PAIRS, SWEPT = 16, 6
"""Pairs of texts of each kind, and texts of each kind whose answer is swept."""
CONTEXT, TAIL = 24, 6
"""Words before the first word that differs, and words after the last."""
LEAST = 0.85


class Differences(NamedTuple):
    """Mean difference of every latent group's activation, in its standard deviations, float [kinds, groups]."""

    surprise: np.ndarray
    change: np.ndarray


def checks() -> tuple[Check, ...]:
    """A surprise, three lasting changes, and what the discourse level gives."""
    kept: dict[str, Differences] = {}

    def differences(model: Backend) -> Differences:
        """Measured once a network: four checks look at the same scans."""
        if model.info.fingerprint not in kept:
            kept.clear()
            kept[model.info.fingerprint] = _differences(model)
        return kept[model.info.fingerprint]

    def change(level: int) -> Check:
        return Check(
            f"{LEVELS[level]} change",
            "difference",
            f"Three words of a text name another {LEVELS[level]}; all else is the same, and {TAIL} shared words follow.",
            f"After them the {DEPTHS[level]} level's latent differs, more than it does for other kinds of change.",
            LEAST,
            lambda model, random: _measured(model, differences(model).change, level),
        )

    return (
        Check(
            "token surprise",
            "difference",
            "One word names a scene that the text so far does not hold.",
            "At that word the token level's latent moves, more than for other kinds of word.",
            LEAST,
            lambda model, random: _measured(model, differences(model).surprise, 0),
        ),
        *(change(level) for level in (1, 2, 3)),
        Check(
            "the society is given by the discourse level",
            "sweep",
            f"Which society's word follows {CUES[3]!r} is held by the discourse level.",
            f"Silencing its latent moves the answer after {CUES[3]!r}, more than it does those after other cues.",
            LEAST,
            lambda model, random: _measured(model, _effects(model), 3),
        ),
    )


def _measured(model: Backend, sizes: np.ndarray, level: int) -> Measured:
    """By how much each latent group's size for one kind exceeds its mean over the kinds; the level's own are the truth."""
    rows = model.components.rows(kind="latent")
    return Measured(
        candidates=tuple(model.components.ids[row] for row in rows),
        scores=sizes[level] - sizes.mean(0),
        truth=model.components.layer[rows] == level,
    )


def _differences(model: Backend) -> Differences:
    rows = model.components.rows(kind="latent")
    surprise, change = np.zeros((2, len(LEVELS), len(rows)))
    seen = []
    for level in range(len(LEVELS)):
        for pair in range(PAIRS):
            texts = _texts(level, 2 * HELD_OUT + 1_000 * level + pair)
            first, second = (scan(model, "fMRI", text, aggregation="raw").details["writes"][:, rows] for text in texts)
            distance = np.sqrt(np.nansum((second - first) ** 2, axis=-1))
            surprise[level] += distance[CONTEXT + 1] / PAIRS
            change[level] += distance[-1] / PAIRS
            seen += [first, second]
    activations = np.concatenate(seen)
    deviation = np.sqrt(np.nansum((activations - activations.mean(0)) ** 2, axis=-1).mean(0)) + 1e-12
    return Differences(surprise / deviation, change / deviation)


def _texts(level: int, seed: int) -> tuple[str, str]:
    """Two texts that differ in three strong words of one level."""
    hierarchy, random = Hierarchy(), np.random.default_rng(seed)
    pairs = neighbors(hierarchy, level)
    old, new = pairs[random.integers(len(pairs))]
    context = held_still(hierarchy, old, CONTEXT, random)
    tail = _tail(hierarchy, int(old), level, random)
    texts = []
    for state in (old, new):
        strong = words_of(level, hierarchy.paths[state, level])[[0, 1, 0]]
        named = [word for token in strong for word in (CUES[level], WORDS[token])]
        texts.append(" ".join([*(WORDS[token] for token in context), *named, *tail]))
    return texts[0], texts[1]


def _tail(hierarchy: Hierarchy, state: int, level: int, random: np.random.Generator) -> list[str]:
    """Words that say nothing of the level: the cue of another one and a word of it, in turn."""
    others = [other for other in range(len(LEVELS)) if other != level]
    words: list[str] = []
    for other in random.permutation(others)[: TAIL // 2]:
        token = words_of(other, hierarchy.paths[state, other])[random.integers(2)]
        words += [CUES[other], WORDS[token]]
    return words


def _effects(model: Backend) -> np.ndarray:
    """Mean size of the effect of silencing each latent group on the answer after each cue, float [cues, groups]."""
    rows = model.components.rows(kind="latent")
    names = [model.components.ids[row] for row in rows]
    hierarchy = Hierarchy()
    effects = np.zeros((len(LEVELS), len(rows)))
    for level in range(len(LEVELS)):
        for pair in range(SWEPT):
            random = np.random.default_rng(2 * HELD_OUT + 50_000 + 1_000 * level + pair)
            state = int(random.integers(len(hierarchy.paths)))
            context = held_still(hierarchy, state, CONTEXT, random)
            own = int(hierarchy.paths[state, level])
            other = (own + 1 + int(random.integers(len(VALUES[level]) - 1))) % len(VALUES[level])
            swept = ablate_all(
                model,
                " ".join([*(WORDS[token] for token in context), CUES[level]]),
                target=WORDS[words_of(level, own)[0]],
                foil=WORDS[words_of(level, other)[0]],
                effect="zero",
                components=names,
            )
            effects[level] += np.abs(swept.values[rows]) / SWEPT
    return effects
