"""What is planted in the cerebellum phantom and must be found by scans.

Convention. Which axis and function a cell serves was drawn at random before the training, so that no cell's number, and no
network with other weights, tells it. Places and noise are held out from the training. A difference is the sum over steps of
|fMRI of one stimulus - fMRI of the other|. Relabelings stay within a kind of cell. Sizes of effects were fixed before the first
measurement; after it the grid's periods were lengthened (fields next to each other in space were not next to each other in
phase), and the trial cells left the truth of the push, which they do not see.

Left out: grid, mossy and granule cells, whose order is fixed or whose truth is a mixture; the five memory units, too few
to test.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nmri3d.models.backend import Backend
from nmri3d.perturbation import ablate_all
from nmri3d.phantoms.calibration import Check, Measured
from nmri3d.phantoms.cerebellum.config import AXES, UNITS
from nmri3d.phantoms.cerebellum.reference import PROBE
from nmri3d.phantoms.registry import shipped
from nmri3d.scans import scan

LEAST = 0.9
REACH = "reach to " + " ".join(f"{at:g}" for at in PROBE) + " noise 0.3 delay 2 trials 3 steps 16 seed 4711"
PUSH_AT, PUSHED = 36, slice(38, 46)
"""Where the push starts, and the steps at which it can be sensed."""


def checks() -> tuple[Check, ...]:
    """The planted truths, for the answer key of the shipped weights."""
    key = {truth.name: frozenset(truth.components) for truth in shipped("cerebellum").answer_key()}
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
