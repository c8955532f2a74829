"""The tables of SPROUT's study, and what the figures do not show.

Convention. Cells as in `nmri3d.phantoms.tables`; a dash where this kind of network has no such figure. "before" is the
initial pattern, or the swapped one, before the rounds run.

Left out: figures of single seeds; they are in the files of the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from nmri3d.phantoms.tables import spread, table
from nmri3d.phantoms.training import Figures, Run

_ACCURACY = "accuracy"
_STEPS = "determined accuracy of held-out combinations by step"
_NUMBER = "number of nouns never seen in the plural, AUROC"
_FIRST = "activations before the first round"

Columns = Mapping[str, Callable[[Figures], Any]]


def _swapped(name: str) -> Callable[[Figures], Any]:
    return lambda figures: figures["dynamics"]["swapped in the attractor"][name]


PREDICTION: Columns = {
    "determined, held-out combinations": lambda f: f[_ACCURACY]["combination"]["determined"],
    "before the rounds": lambda f: f[_STEPS][0],
    "plain": lambda f: f[_ACCURACY]["combination"]["plain"],
    "determined, held-out words": lambda f: f[_ACCURACY]["word"]["determined"],
}
ATTRACTORS: Columns = {
    "change, round 5 / round 1": lambda f: f["dynamics"]["change in the last round over the first"],
    "nearest to its own before": _swapped("nearest to its own before the rounds"),
    "nearest after": _swapped("nearest to its own"),
    "cosine with its own before": _swapped("cosine with its own before the rounds"),
    "cosine after": _swapped("cosine with its own"),
    "own units before": _swapped("units of its own before the rounds"),
    "own units after": _swapped("units of its own"),
}
NUMBER: Columns = {
    "activations or residual": lambda f: next(iter(f[_NUMBER].values())),
    "before the rounds": lambda f: f[_NUMBER][_FIRST],
    "encoder": lambda f: f[_NUMBER]["encoder"],
}
SATURATED = 0.999
"""AUROC from which on nothing is left to be told apart."""


def tables(runs: Sequence[Run], figures: Mapping[Run, Figures]) -> str:
    """Markdown: three tables with a row for each name of a run, what they leave open, and the runs that are missing."""
    own = [each for run, each in figures.items() if run.name == "sprout"]
    blocks = ["Share of right next tokens.", _table(PREDICTION, runs, figures)]
    ideal = [each[_ACCURACY]["combination"]["ideal plain"] for each in figures.values()]
    if ideal:
        blocks.append(f"Ideal plain accuracy on held-out combinations: {ideal[0]:.4f}.")
    if own and _gain(own) <= 0:
        blocks.append(f"The rounds do not make the prediction better: they change it by {_gain(own):+.4f}.")
    blocks += ["26 of the 128 active units swapped.", _table(ATTRACTORS, runs, figures)]
    if own and mean(_swapped("nearest to its own before the rounds")(each) for each in own) >= 0.95:
        blocks.append(
            "The swapped pattern is nearest to its own attractor before any round, so a map that changes nothing would "
            "pass as well; what shows a return is that the cosine and the units of its own grow while its own stays nearest. "
            "The cosine alone shows none: attractors that merge raise it too."
        )
    if own:
        never = mean(each["dynamics"]["units never active on these prefixes"] for each in own)
        blocks.append(f"Units that are active on none of these prefixes, at no step: {never:,.0f}.")
    blocks += ["Number of nouns never seen in the plural, AUROC.", _table(NUMBER, runs, figures)]
    if own and all(min(_values_of(each)) >= SATURATED for each in own):
        blocks.append(
            "Saturated: number is read as well before the first round and from the encoder, so this is no evidence for the "
            "sparse code or the rounds."
        )
    missing = [run.key for run in runs if run not in figures]
    if missing:
        blocks.append(f"Not run yet: {', '.join(missing)}.")
    return "\n\n".join(blocks) + "\n"


def _gain(own: Sequence[Figures]) -> float:
    """By how much the rounds raise the determined accuracy, mean over the seeds."""
    return mean(each[_STEPS][-1] - each[_STEPS][0] for each in own)


def _values_of(figures: Figures) -> list[float]:
    return list(figures[_NUMBER].values())


def _table(columns: Columns, runs: Sequence[Run], figures: Mapping[Run, Figures]) -> str:
    rows = []
    for name in dict.fromkeys(run.name for run in runs):
        found = [figures[run] for run in runs if run.name == name and run in figures]
        values = [[_value(read, each) for each in found] for read in columns.values()]
        if any(value is not None for column in values for value in column):
            rows.append([name, str(len(found)), *(spread(column, ".4f") for column in values)])
    return table(["", "seeds", *columns], rows)


def _value(read: Callable[[Figures], Any], figures: Figures) -> float | None:
    """A figure, or None where this kind of network has none."""
    try:
        return read(figures)
    except KeyError:
        return None
