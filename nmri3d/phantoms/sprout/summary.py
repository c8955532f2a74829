"""The tables of SPROUT's study.

Convention. A cell is mean ± standard deviation over the seeds that are there, or the value where there is one.

Left out: figures of single seeds; they are in the files of the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from nmri3d.phantoms.training import Figures, Run

_ACCURACY = "accuracy"
_NUMBER = "number of nouns never seen in the plural, AUROC"
COLUMNS: dict[str, Callable[[Figures], Any]] = {
    "determined, held-out combinations": lambda f: f[_ACCURACY]["combination"]["determined"],
    "plain": lambda f: f[_ACCURACY]["combination"]["plain"],
    "determined, held-out words": lambda f: f[_ACCURACY]["word"]["determined"],
    "change, round 5 / round 1": lambda f: f["dynamics"]["change in the last round over the first"],
    "back to its own attractor": lambda f: f["dynamics"]["swapped in the attractor"]["nearest to its own"],
    "cosine with it": lambda f: f["dynamics"]["swapped in the attractor"]["cosine with its own"],
    "number, AUROC": lambda f: next(iter(f[_NUMBER].values())),
    "encoder's": lambda f: f[_NUMBER]["encoder"],
}


def table(runs: Sequence[Run], figures: Mapping[Run, Figures]) -> str:
    """Markdown: a row for each name of a run, its missing seeds named below."""
    names = list(dict.fromkeys(run.name for run in runs))
    lines = [f"| | seeds | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name in names:
        found = [figures[run] for run in runs if run.name == name and run in figures]
        if found:
            cells = [_cell([_value(read, each) for each in found]) for read in COLUMNS.values()]
            lines.append(f"| {name} | {len(found)} | {' | '.join(cells)} |")
    ideal = [each[_ACCURACY]["combination"]["ideal plain"] for each in figures.values()]
    if ideal:
        lines += ["", f"Ideal plain accuracy on held-out combinations: {ideal[0]:.4f}."]
    missing = [run.key for run in runs if run not in figures]
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _value(read: Callable[[Figures], Any], figures: Figures) -> float | None:
    """A figure, or None where this kind of network has none."""
    try:
        return read(figures)
    except KeyError:
        return None


def _cell(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    return f"{mean(found):.4f}" + (f" ± {stdev(found):.4f}" if len(found) > 1 else "")
