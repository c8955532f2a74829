"""What is planted in BioHama and must be found by scans: which module carries out which operation.

Convention. The truth is the answer key of the shipped weights, measured by silencing modules on other programs. Candidates
are pairs of a rule and a module (or its gate). Programs are of the in-distribution split as they are scanned, cut after the
last step of the rule under test, and none begins a program by which the key was measured. Sizes of effects were fixed before
the first measurement.

    fMRI   A module whose silence costs a rule anything has an open gate at its steps, and most gates are shut: that the gate of
           the key leads the others at a rule's step is half true by construction. So each of these gates is compared with
           itself at the steps of the other rules, where nothing makes it shut.
    DTI    The key comes from silencing. The scan is attribution patching toward the template's mean: a gradient at the clean
           run, in which nothing is silenced. Modules are compared with the other modules at the same rule.
    FLAIR  The lesion is an edit that sets one module to zero in the run that is scanned; the template is the intact
           network's. The edit plants the truth, in any network; the null networks are scanned without it.

Left out: T1 and T2, in which random weights look the same; DTI by the exact intervention, zero, which is the key's own
measurement; and the modules that a rule needs at any step, to load the list, say. To these attribution patching does not lead
(AUROC 0.51, and 0.84 by the exact intervention, mean), which is why DTI is asked for the module that carries the rule out
(1.0): chosen on a training of seed 0 at the rate 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from nmri3d.models.backend import Backend
from nmri3d.perturbation import Edit
from nmri3d.phantoms.biohama.language import Step, rule_of, write
from nmri3d.phantoms.biohama.tasks import belongs, programs
from nmri3d.phantoms.biohama.truth import FAMILY_OF, RULES, measured_on
from nmri3d.phantoms.calibration import Check, Measured
from nmri3d.phantoms.registry import shipped
from nmri3d.results import Scan
from nmri3d.scans import scan

PROGRAMS = 4
"""Programs of each rule."""

Key = Mapping[str, frozenset[str]]
"""Ids of the components that the answer key names, by rule."""


class Candidate(NamedTuple):
    """A component, the rule (or the lesion) at which it is asked for, its score, and whether the truth names it there."""

    at: str
    name: str
    score: float
    is_true: bool


def checks() -> tuple[Check, ...]:
    """The planted truths, for the answer key of the shipped weights."""
    truths = {truth.name: frozenset(truth.components) for truth in shipped("biohama").answer_key()}
    carries_out = {rule: truths[name] for rule in RULES if (name := f"module of {rule}") in truths}
    return (
        Check(
            "the router's module lights",
            "fMRI",
            "An operation of the answer key is carried out by one module (silencing it at its steps costs the most).",
            "The gate of that module is more active at these steps than at those of the operations that it does not carry out.",
            0.9,
            lambda model, random: _gates(model, carries_out),
        ),
        Check(
            "the router's module leads attribution",
            "DTI",
            "An operation of the answer key is carried out by one module (silencing it at its steps costs the most).",
            "The node score of that module leads those of the other modules.",
            0.9,
            lambda model, random: _attributions(model, carries_out),
        ),
        Check(
            "a lesioned module is found",
            "FLAIR",
            "One module is silenced in every run.",
            "Its z-score against the template of the intact network leads those of the other modules.",
            0.9,
            lambda model, random: _lesions(model, "zero"),
            sham=lambda model, random: _lesions(model, None),
        ),
    )


def _gates(model: Backend, key: Key) -> Measured:
    """Mean of each gate of the key at the last step, for each rule; relabeled within the gate."""
    named = frozenset().union(*key.values())
    rows = np.array([row for row in model.components.rows(kind="gate") if model.components.ids[row] in named])
    found: list[Candidate] = []
    for rule in RULES:
        scans = [scan(model, "fMRI", text) for text in _programs(rule, PROGRAMS)]
        found += _candidates(rule, scans, rows, key.get(rule, frozenset()))
    return _measured(found, [candidate.name for candidate in found])


def _attributions(model: Backend, key: Key) -> Measured:
    """Mean node score of each module for the answer at the step of each rule."""
    rows = model.components.rows(kind="module")
    found: list[Candidate] = []
    for rule in key:
        scans = [scan(model, "DTI", text, method="atp", effect="mean") for text in _programs(rule, PROGRAMS)]
        found += _candidates(rule, scans, rows, key[rule])
    return _measured(found, [candidate.at for candidate in found])


def _lesions(model: Backend, effect: str | None) -> Measured:
    """FLAIR score at the last step of each module, for each module edited; each on other programs, one of each rule."""
    rows = model.components.rows(kind="module")
    names = [model.components.ids[row] for row in rows]
    found: list[Candidate] = []
    for number, name in enumerate(names):
        edits = [] if effect is None else [Edit(name, effect)]
        texts = [_programs(rule, len(names))[number] for rule in RULES]
        scans = [scan(model, "FLAIR", text, edits=edits) for text in texts]
        found += _candidates(name, scans, rows, frozenset({name}))
    return _measured(found, [candidate.at for candidate in found])


def _candidates(at: str, scans: Sequence[Scan], rows: np.ndarray, true: frozenset[str]) -> list[Candidate]:
    """The components of these rows, scored by the mean over scans of their values at the last step."""
    scores = np.mean([each.values[-1, rows] for each in scans], axis=0)
    names = [scans[0].components.ids[row] for row in rows]
    return [Candidate(at, name, float(score), name in true) for name, score in zip(names, scores, strict=True)]


def _measured(found: Sequence[Candidate], strata: Sequence[str]) -> Measured:
    return Measured(
        candidates=tuple(f"{candidate.name} at {candidate.at}" for candidate in found),
        scores=np.array([candidate.score for candidate in found]),
        truth=np.array([candidate.is_true for candidate in found]),
        strata=np.unique(strata, return_inverse=True)[1],
        components=tuple(candidate.name for candidate in found),
    )


@cache
def _programs(rule: str, n: int) -> tuple[str, ...]:
    """Held-out programs that end with a step of the rule, and do not begin as one does by which the key was measured."""
    random = np.random.default_rng([6, RULES.index(rule)])
    known = _beginnings()
    found: dict[str, None] = {}
    while len(found) < n:
        for program in programs(FAMILY_OF[rule], "in-dist", 20, random):
            rules = rule_of(program)
            if rule in rules:
                cut = program[: len(rules) - rules[::-1].index(rule)]
                if belongs(cut, "in-dist") and cut not in known:
                    found[write(cut)] = None
    return tuple(found)[:n]


@cache
def _beginnings() -> frozenset[tuple[Step, ...]]:
    return frozenset(
        program[:steps] for drawn in measured_on().values() for program in drawn for steps in range(1, len(program) + 1)
    )
