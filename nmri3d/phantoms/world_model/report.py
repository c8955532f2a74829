"""The study of the world model as Markdown tables: mean and spread over the seeds that are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nmri3d.phantoms.training import Figures, Run
from nmri3d.phantoms.world_model.lexicon import LEVELS
from nmri3d.phantoms.world_model.model import DEPTHS


def tables(runs: Sequence[Run], figures: Mapping[Run, Figures], ideal: Mapping[str, Any]) -> str:
    """Perplexity and probes by run, then weight, recovery, coherence and depth by level."""
    names = list(dict.fromkeys(run.name for run in runs))
    lines = [
        "| run | seeds | parameters | perplexity | " + " | ".join(f"probe: {hidden}" for hidden in LEVELS) + " |",
        "|---|---|---|---|" + "---|" * len(LEVELS),
        f"| ideal observer | | | {ideal['perplexity']:.2f} |" + " |" * len(LEVELS),
    ]
    for name in names:
        rows = [figures[run] for run in runs if run.name == name and run in figures]
        if not rows:
            continue
        cells = [name, str(len(rows)), str(rows[0]["parameters"]), spread([row["perplexity"] for row in rows])]
        probed = "probes" in rows[0]
        cells += [_own(rows, level) if probed else "" for level in range(len(LEVELS))]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *_weights(runs, figures, ideal)]
    lines += ["", *_levels(runs, figures)]
    missing = [run.key for run in runs if run not in figures]
    if missing:
        lines += ["", f"Missing: {', '.join(missing)}."]
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean and, for several values, standard deviation over seeds."""
    mean = f"{np.mean(values):.3g}" if abs(np.mean(values)) < 10 else f"{np.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.2g}"


def _own(rows: Sequence[Figures], level: int) -> str:
    return spread([100 * row["probes"]["own"][level] for row in rows]) + " %"


def _weights(runs: Sequence[Run], figures: Mapping[Run, Figures], ideal: Mapping[str, Any]) -> list[str]:
    """Evidence needed to change each level and its growth."""
    head = " | ".join(f"{name} ({unit})" for unit in ("nats", "tokens") for name in DEPTHS)
    lines = [f"| evidence needed | {head} | growth, nats | growth, tokens |", "|---|" + "---|" * (2 * len(DEPTHS) + 2)]
    threshold = " | ".join(f"{value:.2f}" for value in ideal["weight"]["threshold"])
    lines.append(f"| ln((n-1)(1-h)/h) | {threshold} |" + " |" * (len(DEPTHS) + 2))
    lines.append(_weight_row("ideal observer", [ideal]))
    for name in ("world model", "untrained"):
        rows = [figures[run] for run in runs if run.name == name and run in figures]
        if rows:
            lines.append(_weight_row(name, rows))
    return lines


def _weight_row(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [name]
    for unit in ("nats", "tokens"):
        cells += [spread([row["weight"][unit][level] for row in rows]) for level in range(len(DEPTHS))]
    for unit in ("growth_nats", "growth_tokens"):
        cells.append(", ".join(spread([row["weight"][unit][step] for row in rows]) for step in range(len(DEPTHS) - 1)))
    return "| " + " | ".join(cells) + " |"


def _levels(runs: Sequence[Run], figures: Mapping[Run, Figures]) -> list[str]:
    """What is measured of each level of the world model."""
    rows = [figures[run] for run in runs if run.name == "world model" and run in figures]
    columns: dict[str, Callable[[Figures, int], float]] = {
        "renewed a token": lambda row, level: row["renewed"][level],
        "surprise: peak, std": lambda row, level: row["recovery"]["peak"][level],
        "half gone after, tokens": lambda row, level: row["recovery"]["half_after"][level],
        "coherence": lambda row, level: row["coherence"][level],
        "depth needed after its cue": lambda row, level: row["depth"]["needed_after_cue"][level],
        "the ideal observer's": lambda row, level: row["depth"]["needed_after_cue_ideal"][level],
    }
    lines = ["| level | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for level, name in enumerate(DEPTHS):
        cells = [spread([value(row, level) for row in rows]) for value in columns.values()] if rows else []
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return lines
