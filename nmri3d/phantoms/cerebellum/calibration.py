"""What is planted in the cerebellum phantom and must be found by scans.

Convention. Most of these truths are wiring: which axis and function a cell serves was drawn at random before the training,
and where a place cell's field is follows from its weights, so that no cell's number, and no network with other weights, tells
it. A network that was never trained has wiring too; told its own, it passes most of these checks. So they show that the scanner
reads what is there, and not that something was learned. One truth is learned: the directions of the Purkinje cells, which
nobody drew. The answer key measures them without any scan, and an untrained network has none: told its own wiring, it fails.

Places and noise are held out from the training. A difference is the sum over steps of |fMRI of one stimulus - fMRI of the
other|. Relabelings stay within a kind of cell. Sizes of effects were fixed before the first measurement; after it the grid's
periods were lengthened (fields next to each other in space were not next to each other in phase), and the trial cells left
the truth of the push, which they do not see.

Left out: grid, mossy and granule cells, whose order is fixed or whose truth is a mixture; the five memory units, too few
to test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nmri3d.models.backend import Backend
from nmri3d.perturbation import ablate_all
from nmri3d.phantoms.calibration import Check, Measured
from nmri3d.phantoms.cerebellum.config import AXES, UNITS
from nmri3d.phantoms.cerebellum.reference import PROBE
from nmri3d.phantoms.phantom import Truth
from nmri3d.phantoms.registry import shipped
from nmri3d.scans import scan

LEAST = 0.9
REACH = "reach to " + " ".join(f"{at:g}" for at in PROBE) + " noise 0.3 delay 2 trials 3 steps 16 seed 4711"
PUSH_AT, PUSHED = 36, slice(38, 46)
"""Where the push starts, and the steps at which it can be sensed."""
LEARNED = "directions"
"""Name of the check that only training passes."""
PUSHED_UP = ("x", "z", "theta_b")
"""Axes on which its bias is positive; it is negative on the others."""
FIRST_SENSED = 2
"""The step of REACH at which an error is first sensed: its delay."""


def checks() -> tuple[Check, ...]:
    """The planted truths, for the answer key of the shipped weights."""
    return checks_for(shipped("cerebellum").answer_key())


def checks_for(answers: Sequence[Truth]) -> tuple[Check, ...]:
    """The planted truths, for any answer key."""
    key = {truth.name: frozenset(truth.components) for truth in answers}
    up = frozenset().union(*(key[f"cells of {axis}"] for axis in PUSHED_UP))
    return (
        *(
            Check(
                f"bias of {axis}",
                "difference",
                f"Some Purkinje and nucleus cells correct {axis} alone.",
                f"They lead the difference between a reach with a motor bias of {axis} and the same reach without.",
                LEAST,
                _of_cells(_difference(axis), key[f"cells of {axis}"]),
            )
            for axis in ("x", "theta_a")
        ),
        Check(
            "place cells of a place",
            "fMRI",
            "Some place cells have their centers next to a place.",
            "They lead the fMRI of the step at which a reach arrives there.",
            LEAST,
            lambda model, random: _measured(
                model, scan(model, "fMRI", REACH).values[-1], key["place cells of the probe"], ("place",)
            ),
        ),
        Check(
            "trial-to-trial cells",
            "fMRI",
            "Some Purkinje cells carry the mean error of past trials, all others what is sensed in this one.",
            "They lead the fMRI of the first step of a trial with a bias, when nothing has been sensed yet.",
            LEAST,
            lambda model, random: _measured(
                model,
                np.abs(scan(model, "fMRI", f"{REACH} bias 2 -2 2 -2 2").values[32]),
                key["cells of trial"],
                ("purkinje",),
            ),
        ),
        Check(
            "silenced cells of z",
            "sweep",
            "Some Purkinje and nucleus cells correct z alone.",
            "Silenced one by one, they change the tracking error of z most.",
            LEAST,
            _of_cells(_silenced("z"), key["cells of z"]),
        ),
        Check(
            "attribution of theta_b",
            "DTI",
            "Some Purkinje and nucleus cells correct theta_b alone.",
            "They lead the attribution of the tracking error of theta_b.",
            LEAST,
            _of_cells(_attributed("theta_b"), key["cells of theta_b"]),
        ),
        Check(
            "push on y",
            "FLAIR",
            "A push on y is a disturbance that no reference stimulus has; some cells correct what is sensed of y.",
            "They are the ones least like the template while the push is sensed.",
            LEAST,
            _of_cells(_unusual, key["cells of y"] - key["cells of trial"]),
        ),
        Check(
            LEARNED,
            "fMRI",
            "Training made Purkinje cells rise where the machine is pushed up on their axis and fall where it is pushed down.",
            "When a bias is first sensed, the cells of the axes that it pushes up lead the fMRI.",
            LEAST,
            lambda model, random: _directions(model, up, key["cells of trial"]),
        ),
    )


def _of_cells(
    scores: Callable[[Backend], np.ndarray], truth: frozenset[str]
) -> Callable[[Backend, np.random.Generator], Measured]:
    return lambda model, random: _measured(model, scores(model), truth, ("purkinje", "nucleus"))


def _measured(model: Backend, scores: np.ndarray, truth: frozenset[str], kinds: tuple[str, ...]) -> Measured:
    rows = np.concatenate([model.components.rows(kind=kind) for kind in kinds])
    names = tuple(model.components.ids[row] for row in rows)
    strata = np.array([kinds.index(model.components.kind[row]) for row in rows])
    true = np.array([name in truth for name in names])
    return Measured(names, scores[rows].astype(float), true, strata if len(kinds) > 1 else None)


def _directions(model: Backend, up: frozenset[str], trial: frozenset[str]) -> Measured:
    """The Purkinje cells that act within a trial, prediction's and variance's alike."""
    bias = " ".join(f"{2 if axis in PUSHED_UP else -2}" for axis in AXES)
    values = scan(model, "fMRI", f"{REACH} bias {bias}").values[FIRST_SENSED]
    rows = [row for row in model.components.rows(kind="purkinje") if model.components.ids[row] not in trial]
    names = tuple(model.components.ids[row] for row in rows)
    return Measured(names, values[rows].astype(float), np.array([name in up for name in names]))


def _five(axis: str, size: float) -> str:
    return " ".join(f"{size if name == axis else 0:g}" for name in AXES)


def _difference(axis: str) -> Callable[[Backend], np.ndarray]:
    def measure(model: Backend) -> np.ndarray:
        biased = scan(model, "fMRI", f"{REACH} bias {_five(axis, 2.0)}").values
        return np.abs(biased - scan(model, "fMRI", REACH).values).sum(0)

    return measure


def _output(axis: str) -> str:
    return f"error {axis} ({UNITS[AXES.index(axis)]})"


def _silenced(axis: str) -> Callable[[Backend], np.ndarray]:
    return lambda model: np.abs(ablate_all(model, REACH, target=_output(axis), effect="zero").values)


def _attributed(axis: str) -> Callable[[Backend], np.ndarray]:
    return lambda model: np.abs(
        scan(model, "DTI", REACH, target=_output(axis), method="exact", effect="zero").values[0]
    )


def _unusual(model: Backend) -> np.ndarray:
    values = scan(model, "FLAIR", f"{REACH} push {_five('y', 6.0)} at {PUSH_AT}").values
    return values[PUSHED].mean(0)
