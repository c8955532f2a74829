"""What is planted in SPROUT and must be found by scans.

Convention. Prefixes are the "calibration" probes of `probes`: their head nouns never occur in the plural in training, and
neither do the pairs of head and phrase noun, so they share nothing with the prefixes that named the units of the answer key.
A plural prefix comes with its twin, in which the plural has moved from the head noun to the phrase's noun ("now the cats near
this dog", "now the cat near these dogs"): equally many tokens, and an +s in both. Sizes of effects were fixed on networks of
earlier trainings, and how FLAIR is summed over steps on nouns that training shows. Scores are of all 4096 units, activity
that of the last round.

Left out: T1, which a network with random weights passes as well, so that it would say nothing; animacy, which no unit tells at
the end of these prefixes, where it does not matter yet; and a lesion in FLAIR, which shows in random networks too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nmri3d.models.backend import Backend
from nmri3d.perturbation import ablate_all
from nmri3d.phantoms.calibration import Check, Measured
from nmri3d.phantoms.registry import shipped
from nmri3d.phantoms.sprout.lexicon import write
from nmri3d.phantoms.sprout.probes import probes
from nmri3d.scans import scan

PAIRS = 12
LEAST = 0.8
LEAST_BY_CAUSE = 0.6
"""Attribution reaches the units that are active for a prefix; all others tie at zero, also those of the answer key."""

LEAST_OF_PREFIXES = 0.65
"""FLAIR ranks whole prefixes, not units."""
DISAGREEMENTS = 80


def checks() -> tuple[Check, ...]:
    """The planted truths, for the answer key of the shipped weights."""
    key = {truth.name: frozenset(truth.components) for truth in shipped("sprout").answer_key()}
    plural, singular, past = (key[name] for name in ("plural units", "singular units", "past units"))
    number = "of nouns that training never showed in the plural"
    return (
        Check(
            "plural units light",
            "difference",
            "After 'now' some units are active for plural subjects (measured on other nouns).",
            f"They lead the fMRI of plural subjects less that of their twins {number}.",
            LEAST,
            lambda model, random: _measured(model, _differences(model, _number_pairs()), plural),
        ),
        Check(
            "singular units light",
            "difference",
            "After 'now' some units are active for singular subjects (measured on other nouns).",
            f"They lead the fMRI of the twins less that of plural subjects {number}.",
            LEAST,
            lambda model, random: _measured(model, -_differences(model, _number_pairs()), singular),
        ),
        Check(
            "past units light",
            "difference",
            "Some units are active after 'then' rather than 'now' (measured on other nouns).",
            "They lead the fMRI of prefixes with 'then' less those with 'now'.",
            LEAST,
            lambda model, random: _measured(model, _differences(model, _tense_pairs()), past),
        ),
        Check(
            "plural units carry 'are'",
            "DTI",
            "The plural units are what the decoder reads 'are' rather than 'is' from.",
            f"They lead the attribution of 'are' against 'is', patched from the twin, {number}.",
            LEAST_BY_CAUSE,
            lambda model, random: _measured(model, _mean(_number_pairs(4), _attributed(model)), plural),
        ),
        Check(
            "silenced plural units lower 'are'",
            "sweep",
            "The plural units are what the decoder reads 'are' rather than 'is' from.",
            f"Silenced one by one, they lower 'are' against 'is' most, {number}.",
            LEAST_BY_CAUSE,
            lambda model, random: _measured(model, _mean(_number_pairs(4), _silenced(model)), plural),
        ),
        Check(
            "disagreement is unusual",
            "FLAIR",
            "In training the form of be always agrees with the subject in number.",
            "Prefixes in which it does not have a higher mean |z| than their twins in which it does.",
            LEAST_OF_PREFIXES,
            lambda model, random: _disagreement(model),
        ),
    )


Pair = tuple[str, str]


def _number_pairs(count: int = PAIRS) -> list[Pair]:
    """Prefixes whose head noun is plural, and their twins."""
    found = [probe.tokens for probe in probes("calibration", 400) if probe.plural and probe.tokens[-2] == "this"]
    pairs = []
    for _, determiner, head, _, preposition, _, noun in found[:count]:
        plural = ("now", determiner, head, "+s", preposition, "this", noun)
        singular = ("now", determiner, head, preposition, "these", noun, "+s")
        pairs.append((write(plural), write(singular)))
    return pairs


def _disagreement(model: Backend) -> Measured:
    """Prefixes with "is" and with "are" after them; each scored by how much more unusual it is than the other of its pair.

    How unusual: mean |z| over all parts and steps.
    """
    prefixes, scores, wrong = [], [], []
    now = [probe for probe in probes("calibration", 8 * DISAGREEMENTS) if probe.tokens[0] == "now"]
    for probe in now[:DISAGREEMENTS]:
        pair = [write((*probe.tokens, form)) for form in ("is", "are")]
        one, two = (float(scan(model, "FLAIR", prefix).details["summary"].mean()) for prefix in pair)
        prefixes += pair
        scores += [one - two, two - one]
        wrong += [probe.plural, not probe.plural]
    return Measured(tuple(prefixes), np.array(scores), np.array(wrong), strata=np.arange(len(prefixes)) // 2)


def _tense_pairs() -> list[Pair]:
    """The same prefix after "then" and after "now"."""
    return [
        (write(("then", *probe.tokens[1:])), write(("now", *probe.tokens[1:])))
        for probe in probes("calibration", PAIRS)
    ]


def _mean(pairs: list[Pair], measure: Callable[[Pair], np.ndarray]) -> np.ndarray:
    return np.mean([measure(pair) for pair in pairs], axis=0)


def _differences(model: Backend, pairs: list[Pair]) -> np.ndarray:
    """Mean fMRI value of every component at the last step, first prefix less second."""
    return _mean(pairs, lambda pair: scan(model, "fMRI", pair[0]).values[-1] - scan(model, "fMRI", pair[1]).values[-1])


def _attributed(model: Backend) -> Callable[[Pair], np.ndarray]:
    return lambda pair: scan(model, "DTI", pair[0], corrupt=pair[1], target="are", foil="is", method="exact").values[0]


def _silenced(model: Backend) -> Callable[[Pair], np.ndarray]:
    return lambda pair: -ablate_all(model, pair[0], target="are", foil="is", effect="zero").values


def _measured(model: Backend, scores: np.ndarray, truth: frozenset[str]) -> Measured:
    units = model.components.rows(kind="unit")
    names = tuple(model.components.ids[row] for row in units)
    return Measured(names, scores[units], np.array([name in truth for name in names]))
