"""Markdown tables of what studies measured.

Convention. A cell is mean ± standard deviation (n - 1) over the seeds that are there, the value where there is one, and a dash
where there is none. A seed whose measure has no value is counted: "69 ± 11 (2 of 3)". Values are as measured: a caller scales
and names units.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

NOTHING = "–"


def spread(values: Sequence[float | None], form: str = ".3f") -> str:
    """Mean and standard deviation of the values that are there, each formatted by `form`, and how many where some lack."""
    found = [value for value in values if value is not None]
    if not found:
        return NOTHING
    text = format(mean(found), form)
    if len(found) > 1:
        text += f" ± {format(stdev(found), form)}"
    return text if len(found) == len(values) else f"{text} ({len(found)} of {len(values)})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
