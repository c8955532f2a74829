"""A picture of each check of a calibration: the scores that scans gave beside the truth that was planted.

Convention. Both brains show the same components, those that the check compared; all others stay gray. Where a component stands
for several candidates (a module for each rule), the first of them is shown.

Left out: checks whose candidates are no components (edges, prefixes, steps); they are in the tables.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmri3d.jupyter import Brain
from nmri3d.linked import side_by_side
from nmri3d.models.backend import Backend
from nmri3d.phantoms.calibrating import Calibration, Result
from nmri3d.results import Provenance, Scan

SIZE = (1600, 720)


def write_pictures(calibration: Calibration, backend: Backend, folder: Path) -> list[Path]:
    """`<phantom>-<check>.png` for each check that compared components; returns their paths."""
    paths = []
    with Brain(backend) as scores, Brain(backend) as truth:
        _turn(scores, backend)
        _turn(truth, backend)
        for result in calibration.results:
            shown = on_components(result, backend)
            if shown is not None:
                path = folder / f"{calibration.phantom}-{result.check.name.replace(' ', '-')}.png"
                titles = [f"{result.check.scan}: {result.check.name}", "planted"]
                for brain, scan in zip((scores, truth), shown, strict=True):
                    brain.show(scan)
                paths.append(side_by_side([scores, truth], path, titles=titles, size=SIZE))
    return paths


def _turn(brain: Brain, backend: Backend) -> None:
    """Show all at once: both hemispheres flat, or the cerebellum and the hippocampi from below."""
    if set(backend.structures) == {"cortex"}:
        brain.show_form("flat")
        brain.view("dorsal")
    else:
        brain.view("ventral")


def on_components(result: Result, backend: Backend) -> tuple[Scan, Scan] | None:
    """Scores and truth of a check as scans [1, components], NaN where it compared nothing; None for what are no components."""
    measured, table = result.finding.measured, backend.components
    row_of = {name: row for row, name in enumerate(table.ids)}
    scores, truth = np.full((2, len(table)), np.nan, np.float32)
    names = measured.candidates if measured.components is None else measured.components
    for name, score, true in reversed(list(zip(names, measured.scores, measured.truth, strict=True))):
        if name not in row_of:
            return None
        scores[row_of[name]], truth[row_of[name]] = score, 1 if true else -1
    mode = result.check.scan if result.check.scan in ("T1", "T2", "DTI", "FLAIR") else "fMRI"
    provenance = Provenance(backend.info.model_id, backend.info.fingerprint, config={"check": result.check.name})

    def painted(values: np.ndarray, units: str) -> Scan:
        return Scan(mode, values[None], units, table, (), provenance, signed=bool((values < 0).any()))

    return painted(scores, "score"), painted(truth, "planted (1), not planted (-1)")
