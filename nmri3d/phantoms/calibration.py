"""Calibration: a truth is planted, a scan is taken, and what it shows is compared with what is known.

Convention. A check measures with the public scans and perturbations only. Its `measure` returns a score for every
*candidate* (usually a component) and says which candidates the truth names. From that follow

    effect   AUROC of the scores: how often a true candidate outranks another, ties half (0.5: chance, 1: all lead); over all
             candidates, also where there are strata
    p        share of random relabelings of the candidates, within strata where the check names them, whose effect is at
             least as large; (1 + count) / (1 + permutations), of 4,000. Where there are fewer than 1,000 relabelings in all,
             the share of all, among which is the true one.
    z        (effect - mean of the relabeled effects) / their standard deviation

A truth is *found* where p < 0.01, the effect reaches the size that the check fixed beforehand, and z is above what the null
phantoms allow: the 95th percentile, over at least 100 random networks, of the largest z that any check of the same phantom
gives on them (familywise 5 %). A random network is asked for the trained network's truth. That guards against what the shape
of a network alone would show; it does not say that only training makes a truth (one that was drawn with the wiring, as in
the cerebellum, is there before the training). Where an edit plants the truth, every network that is edited holds it: the
null networks are then measured without the edit (`Check.sham`).

Left out: how the report looks (`nmri3d.phantoms.report`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb, prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nmri3d.models.backend import Backend

PERMUTATIONS = 4_000
LEAST_RELABELINGS = 1_000
SIGNIFICANT = 0.01


@dataclass(frozen=True, eq=False)
class Measured:
    """What a check measured.

    candidates  names, usually component ids
    scores      float [candidates]; what is not defined is left out by the check
    truth       bool [candidates], those that the planted truth names; neither none nor all
    strata      int [candidates] or None: relabelings stay within a stratum (kind and depth, say)
    components  the component that each candidate stands for, where candidates are not components themselves
    """

    candidates: tuple[str, ...]
    scores: np.ndarray
    truth: np.ndarray
    strata: np.ndarray | None = None
    components: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.candidates)
        if len(self.scores) != n or len(self.truth) != n or not np.isfinite(self.scores).all():
            raise ValueError("scores and truth of a check must be finite and belong to its candidates, one each")
        if not 0 < int(np.sum(self.truth)) < n:
            raise ValueError("the truth of a check must name some of its candidates, and not all")


Measure = Callable[["Backend", np.random.Generator], Measured]


@dataclass(frozen=True)
class Check:
    """One planted truth and the scan that must find it.

    name       short, unique in its phantom
    scan       "T1", "T2", "fMRI", "DTI", "FLAIR", "difference" (fMRI of two stimuli or of an edit) or "sweep"
    planted    what is true, in a sentence
    expected   what the scan must show, in a sentence
    least      effect (AUROC) that counts, fixed before the first measurement
    measure    takes a backend and a random generator; the same function measures the null phantoms, whose truth is the trained
               network's, so it may use the answer key that it closes over but must not look inside the network
    sham       the same without the edit that plants the truth; None where the weights hold it
    """

    name: str
    scan: str
    planted: str
    expected: str
    least: float
    measure: Measure
    sham: Measure | None = None

    @property
    def on_nulls(self) -> Check:
        """The check as null networks are asked it."""
        return self if self.sham is None else replace(self, measure=self.sham)


@dataclass(frozen=True)
class Finding:
    """What a check gave: effect, p and z as in the module's first lines, and the leading candidates by score.

    leading   name, score, and whether the truth names it; the ten of largest score, largest first
    measured  what they follow from
    """

    check: str
    effect: float
    p: float
    z: float
    n_candidates: int
    n_true: int
    leading: tuple[tuple[str, float, bool], ...]
    measured: Measured


def judge(check: Check, backend: Backend, seed: int = 0) -> Finding:
    """Measure a check on a backend and test it by permutation."""
    measured = check.measure(backend, np.random.default_rng([seed, *check.name.encode()]))
    ranks = _ranks(measured.scores)
    effect = auroc(measured.scores, measured.truth)
    null, every = _relabeled(ranks, measured, np.random.default_rng([seed, 1]))
    spread = float(null.std())
    as_large = int(np.sum(null >= effect - 1e-12))
    order = np.argsort(-measured.scores, kind="stable")[:10]
    return Finding(
        check=check.name,
        effect=effect,
        p=as_large / len(null) if every else (1 + as_large) / (1 + len(null)),
        z=(effect - float(null.mean())) / spread if spread > 0 else 0.0,
        n_candidates=len(measured.candidates),
        n_true=int(measured.truth.sum()),
        leading=tuple((measured.candidates[i], float(measured.scores[i]), bool(measured.truth[i])) for i in order),
        measured=measured,
    )


def is_found(check: Check, finding: Finding, threshold: float) -> bool:
    """Whether a truth counts as found; `threshold` is the z that the null phantoms allow."""
    return finding.p < SIGNIFICANT and finding.effect >= check.least and finding.z > threshold


def auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    """How often a score of the truth outranks another, ties half; scores float [n], truth bool [n], neither none nor all."""
    n_true, n = int(truth.sum()), len(truth)
    return float((_ranks(scores)[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * (n - n_true)))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _relabeled(ranks: np.ndarray, measured: Measured, random: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Effects under relabelings, and whether these are all: where they are many, PERMUTATIONS random ones are drawn."""
    n, n_true = len(ranks), int(measured.truth.sum())
    strata = np.zeros(n, int) if measured.strata is None else np.asarray(measured.strata)
    within = [(ranks[strata == each], int(measured.truth[strata == each].sum())) for each in np.unique(strata)]
    every = prod(comb(len(own), true) for own, true in within) < LEAST_RELABELINGS
    if every:
        sums = np.zeros(1)
        for own, true in within:
            sums = np.add.outer(sums, [own[list(chosen)].sum() for chosen in combinations(range(len(own)), true)])
        sums = sums.ravel()
    else:
        sums = np.zeros(PERMUTATIONS)
        for own, true in within:
            drawn = random.permuted(np.tile(np.arange(len(own)), (PERMUTATIONS, 1)), axis=1)
            sums += own[drawn[:, :true]].sum(axis=1)
    return (sums - n_true * (n_true + 1) / 2) / (n_true * (n - n_true)), every
