"""The study of the world model as Markdown tables: perplexity and probes by network, then weight, recovery, coherence and depth
by level; cells as in `nmri3d.phantoms.tables`.

Left out: figures of single seeds; they are in the files of the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nmri3d.phantoms.tables import NOTHING, spread, table
from nmri3d.phantoms.training import Figures, Run
from nmri3d.phantoms.world_model.lexicon import LEVELS
from nmri3d.phantoms.world_model.model import DEPTHS

ALL_LEVELS = range(len(DEPTHS))


def tables(
    runs: Sequence[Run], figures: Mapping[Run, Figures], ideal: Mapping[str, Any], rates: Mapping[str, float]
) -> str:
    """All tables, and which runs are missing; `rates` are the chosen learning rates, by network."""
    found: dict[str, list[Figures]] = {}
    for run in runs:
        if run in figures:
            found.setdefault(run.name, []).append(figures[run])
    networks = {name: rows for name, rows in found.items() if not name.startswith("rate ")}
    blocks = [_networks(networks, ideal), _weights(networks, ideal), _levels(networks.get("world model", []))]
    blocks.append(_rates(figures, rates))
    missing = [run.key for run in runs if run not in figures]
    if missing:
        blocks.append(f"Missing: {', '.join(missing)}.")
    return "\n\n".join(filter(None, blocks))


def _rates(figures: Mapping[Run, Figures], chosen: Mapping[str, float]) -> str:
    """Of the first seed: perplexity on the development text at the rates that were tried, and at the chosen one."""
    rows = []
    for run, found in figures.items():
        tried = run.name.startswith("rate ")
        if run.seed == 0 and (tried or run.name in chosen):
            rate, name = run.name.split(maxsplit=2)[1:] if tried else (str(chosen[run.name]), run.name)
            rows.append([name, rate, f"{found['development']:.3f}", "" if tried else "chosen"])
    return table(["network", "rate", "perplexity, development text, first seed", ""], sorted(rows)) if rows else ""


def _networks(found: Mapping[str, Sequence[Figures]], ideal: Mapping[str, Any]) -> str:
    """Perplexity and what each level's own probe names, in percent, where the ideal observer is sure."""
    rows = [["ideal observer", NOTHING, NOTHING, f"{ideal['perplexity']:.3f}", *[NOTHING] * len(LEVELS)]]
    for name, own in found.items():
        probes = [
            spread([100 * row["probes"]["own"][level] for row in own if "probes" in row], ".1f") for level in ALL_LEVELS
        ]
        perplexity = spread([row["perplexity"] for row in own], ".3f")
        rows.append([name, str(len(own)), f"{own[0]['parameters']:,}", perplexity, *probes])
    return table(["network", "seeds", "parameters", "perplexity", *(f"{hidden}, %" for hidden in LEVELS)], rows)


def _weights(found: Mapping[str, Sequence[Figures]], ideal: Mapping[str, Any]) -> str:
    """Evidence needed to change each level, the share of streams that never change it, and its growth."""
    units = [f"{name}, {unit}" for unit in ("nats", "tokens") for name in DEPTHS]
    threshold = [f"{value:.2f}" for value in ideal["weight"]["threshold"]]
    rows = [["ln((n-1)(1-h)/h)", *threshold, *[NOTHING] * (2 * len(DEPTHS) + 1)], _weight("ideal observer", [ideal])]
    rows += [_weight(name, own) for name, own in found.items() if "weight" in own[0]]
    unmoved = [f"{name}, unmoved" for name in DEPTHS]
    return table(["evidence that changes a level", *units, *unmoved, "growth (nats and tokens)"], rows)


def _weight(name: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [name]
    for unit in ("nats", "tokens"):
        cells += [spread([row["weight"][unit][level] for row in found], ".2f") for level in ALL_LEVELS]
    cells += [spread([row["weight"]["unmoved"][level] for row in found], ".2f") for level in ALL_LEVELS]
    growth = [spread([row["weight"]["growth_nats"][step] for row in found], ".2f") for step in ALL_LEVELS[:-1]]
    return [*cells, ", ".join(growth)]


def _levels(found: Sequence[Figures]) -> str:
    """What is measured of each level of the world model."""
    columns: dict[str, Callable[[Figures, int], float | None]] = {
        "renewed a token": lambda row, level: row["renewed"][level],
        "surprise: peak, std": lambda row, level: row["recovery"]["peak"][level],
        "half gone after, tokens": lambda row, level: row["recovery"]["half_after"][level],
        "coherence": lambda row, level: row["coherence"][level],
        "depth needed after its cue": lambda row, level: row["depth"]["needed_after_cue"][level],
        "the ideal observer's": lambda row, level: row["depth"]["needed_after_cue_ideal"][level],
        "asked for after its cue": lambda row, level: (
            row["depth"]["gate_after_cue"][level][level - 1] if level else None
        ),
        "asked for after the lowest cue": lambda row, level: (
            row["depth"]["gate_after_cue"][0][level - 1] if level else None
        ),
    }
    rows = [
        [name, *(spread([value(row, level) for row in found]) for value in columns.values())]
        for level, name in enumerate(DEPTHS)
    ]
    return table(["level", *columns], rows)
