"""What is planted in BioHama and must be found by scans: which module carries out which operation.

Convention. The truth is the answer key of the shipped weights, measured by silencing modules on other programs. Candidates
are pairs of a rule and a module (or its gate), and are only ever relabeled within their rule: that the list operations need
more than the others is no finding. Programs are new ones of the in-distribution split, the rule under test being the last
step. Sizes of effects were fixed before the first measurement.

A lesion is an edit that sets one module to zero in the run that is scanned; FLAIR compares that run with the template, which is
the intact network's.

Left out: T1 and T2, in which random weights look the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nmri3d.models.backend import Backend
from nmri3d.perturbation import Edit
from nmri3d.phantoms.biohama.language import rule_of, write
from nmri3d.phantoms.biohama.tasks import programs
from nmri3d.phantoms.biohama.truth import FAMILY_OF, RULES
from nmri3d.phantoms.calibration import Check, Measured
from nmri3d.phantoms.registry import shipped
from nmri3d.scans import scan

PROGRAMS = 4
"""Programs of each rule."""

Key = Mapping[str, frozenset[str]]
"""Ids of the components that the answer key names, by rule."""


def checks() -> tuple[Check, ...]:
    """The planted truths, for the answer key of the shipped weights."""
    truths = {truth.name: frozenset(truth.components) for truth in shipped("biohama").answer_key()}
    carries_out = {rule: truths[name] for rule in RULES if (name := f"module of {rule}") in truths}
    needed = {rule: truths[name] for rule in RULES if (name := f"modules needed for {rule}") in truths}
    return (
        Check(
            "the router's module lights",
            "fMRI",
            "Each operation is carried out by one module (silencing it at the steps of the operation costs the most).",
            "At these steps the gate of that module is more active than the other gates.",
            0.9,
            lambda model, random: _by_rule(model, carries_out, "gate", _gates),
        ),
        Check(
            "modules lead attribution",
            "DTI",
            "Each operation needs certain modules (silencing them costs it at least 30 % of its answers).",
            "The node scores of these modules lead those of the other modules.",
            0.9,
            lambda model, random: _by_rule(model, needed, "module", _attributions),
        ),
        Check(
            "a lesioned module is found",
            "FLAIR",
            "One module is silenced in every run.",
            "Its z-score against the template of the intact network leads those of the other modules.",
            0.9,
            lambda model, random: _lesions(model),
        ),
    )


def _by_rule(model: Backend, key: Key, kind: str, score: Callable[[Backend, str, np.ndarray], np.ndarray]) -> Measured:
    """Scores of all components of a kind, rule by rule, the mean over the rule's programs."""
    rows = model.components.rows(kind=kind)
    names = [model.components.ids[row] for row in rows]
    scores = [np.mean([score(model, text, rows) for text in _programs(rule)], axis=0) for rule in key]
    return _measured(key, names, np.concatenate(scores), lambda rule, name: name in key[rule])


def _gates(model: Backend, text: str, rows: np.ndarray) -> np.ndarray:
    return scan(model, "fMRI", text).values[-1, rows]


def _attributions(model: Backend, text: str, rows: np.ndarray) -> np.ndarray:
    return scan(model, "DTI", text, method="exact", effect="zero").values[0, rows]


def _lesions(model: Backend) -> Measured:
    """FLAIR scores of all modules at the last step, for each module silenced; candidates are pairs of lesion and module."""
    rows = model.components.rows(kind="module")
    names = [model.components.ids[row] for row in rows]
    texts = [_programs(rule)[0] for rule in RULES]
    scores = [
        np.mean([scan(model, "FLAIR", text, edits=[Edit(name, "zero")]).values[-1, rows] for text in texts], axis=0)
        for name in names
    ]
    return _measured(names, names, np.concatenate(scores), lambda lesion, name: lesion == name)


def _measured(
    strata: Sequence[str] | Key, names: Sequence[str], scores: np.ndarray, is_true: Callable[[str, str], bool]
) -> Measured:
    pairs = [(number, stratum, name) for number, stratum in enumerate(strata) for name in names]
    return Measured(
        candidates=tuple(f"{name} at {stratum}" for _, stratum, name in pairs),
        scores=np.asarray(scores, float),
        truth=np.array([is_true(stratum, name) for _, stratum, name in pairs]),
        strata=np.array([number for number, _, _ in pairs]),
    )


def _programs(rule: str) -> list[str]:
    """Programs that end with a step of the rule; never those by which the answer key was measured."""
    random = np.random.default_rng([6, RULES.index(rule)])
    found: list[str] = []
    while len(found) < PROGRAMS:
        for program in programs(FAMILY_OF[rule], "in-dist", 20, random):
            rules = rule_of(program)
            if rule in rules:
                found.append(write(program[: len(rules) - rules[::-1].index(rule)]))
    return found[:PROGRAMS]
