"""Training phantoms: runs that can be repeated from their seed, studies that can be stopped and taken up again.

Convention. A recipe is what one phantom says of its training: `ship` trains the network that is shipped, `runs` lists what a
study needs (seeds, baselines, ablations), `run` does one of them and returns its figures as plain JSON values, `summary`
turns the figures of all runs into tables. A study keeps each run's figures in a file of its own as soon as they are there, so
that stopping it loses at most the run under way, and all of them together in `study.json`, which is what is shipped.

Everything is seeded: torch, NumPy and the order of the data follow from the seed of the run alone.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nmri3d.files import written_whole
from nmri3d.models.backend import Progress, no_progress
from nmri3d.models.progress import part
from nmri3d.phantoms.phantom import Phantom

Figures = Mapping[str, Any]
"""Plain JSON values by name; a figure that has no value is None, never NaN."""


STUDY = "study.json"
"""Name of the file that holds the figures of all runs of a study, by `Run.key`."""


@dataclass(frozen=True)
class Run:
    """One training of a study: `name` says what is trained ("sprout", "transformer", "without router")."""

    name: str
    seed: int

    @property
    def key(self) -> str:
        """File name of its figures, without the suffix."""
        return f"{self.name.replace(' ', '-')}.seed{self.seed}"


class Recipe(Protocol):
    """How one phantom is trained."""

    shipped_seed: int

    def ship(self, seed: int, progress: Progress) -> tuple[Phantom, Figures]:
        """Train the network that is shipped and measure it on held-out data. Under 20 minutes on two cores."""
        ...

    def runs(self) -> Sequence[Run]:
        """What a study consists of: three seeds of the network, its baselines and its ablations."""
        ...

    def run(self, run: Run, progress: Progress) -> Figures:
        """Train and measure one run."""
        ...

    def summary(self, figures: Mapping[Run, Figures]) -> str:
        """Markdown tables of mean and spread over the seeds, for the runs that are there; says which are missing."""
        ...


def seeded(seed: int) -> tuple[np.random.Generator, torch.Generator]:
    """Seed torch's global state and return generators for the data and for the weights."""
    torch.manual_seed(seed)
    return np.random.default_rng(seed), torch.Generator().manual_seed(seed)


def study(recipe: Recipe, folder: Path, progress: Progress = no_progress) -> str:
    """Do the runs that have no figures in `folder` yet, one after the other, and return the summary of all."""
    runs = recipe.runs()
    for number, run in enumerate(runs):
        path = folder / f"{run.key}.json"
        if not path.exists():
            started = time.perf_counter()
            share = part(progress, number / len(runs), (number + 1) / len(runs))
            figures = dict(recipe.run(run, _named(share, f"{run.name}, seed {run.seed}")))
            figures |= {"seconds": round(time.perf_counter() - started, 1), "machine": machine()}
            write_figures(path, figures)
        there = {run.key: json.loads(file.read_text()) for run in runs if (file := folder / f"{run.key}.json").exists()}
        write_figures(folder / STUDY, there)
    return tables_of(recipe, folder / STUDY)


def tables_of(recipe: Recipe, path: Path) -> str:
    """The summary of a study from its `study.json`, finished or not."""
    kept = json.loads(path.read_text())
    return recipe.summary({run: kept[run.key] for run in recipe.runs() if run.key in kept})


def write_figures(path: Path, figures: Figures) -> None:
    """Write figures as JSON, whole or not at all. Raises ValueError for NaN and infinity."""
    text = json.dumps(figures, indent=1, allow_nan=False) + "\n"
    with written_whole(path) as file:
        file.write(text.encode())


def machine() -> str:
    """What the figures were measured with."""
    return f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, {torch.get_num_threads()} threads"


def _named(progress: Progress, name: str) -> Callable[[float, str], None]:
    return lambda share, what: progress(share, f"{name}: {what}")
