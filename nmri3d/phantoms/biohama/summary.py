"""The tables of BioHama's study: the network beside its baselines, without each of its mechanisms, and adapted.

Convention. Cells as in `nmri3d.phantoms.tables`, in percent of programs with every answer right; "training" are programs drawn
anew of the kind that was trained on. What an ablation loses is counted seed by seed. A mechanism counts as contributing where
in-dist or OOD is lower without it, by more than SAMPLING, than at any seed of the whole network.

Left out: training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nmri3d.phantoms.biohama.baselines import BASELINES
from nmri3d.phantoms.biohama.fewshot import NEW, NOT_TUNED_ON, TUNED_ON
from nmri3d.phantoms.biohama.tasks import FAMILIES
from nmri3d.phantoms.tables import spread, table
from nmri3d.phantoms.training import Figures, Run

SHOWN = ("training", "in-dist", "longer", "combinations", "OOD")
BEATABLE = 0.75
SAMPLING = 0.005
"""What the choice of test programs may move an accuracy by."""

TUNING = (
    "The learning rate of every network was chosen among the same, on the validation split. No other tuning was equal: "
    "the shares of the tasks in an update and where the curriculum starts (all networks train with them), and the decision "
    "loss, the noise on slots and the steepness of addresses (BioHama alone has them) were chosen for BioHama as it was built."
)
FEW_SHOT = (
    "The network knows six operations by their own words. For these a support set names a synonym: `best known`, which picks "
    "the word of least loss on it, is the baseline of `adapted`. `own left out`: the operation's own word is not among those "
    "tried. `new`: an operation that no word means and no module was trained to do. Size 0: the word without any support."
)

_KINDS = dict.fromkeys(TUNED_ON, "tuned on it") | dict.fromkeys(NOT_TUNED_ON, "not tuned on it") | {NEW: "new"}


def tables(figures: Mapping[Run, Figures], missing: Sequence[Run]) -> str:
    """All tables as Markdown, and what is missing."""
    parts = [
        _networks(figures),
        _families(figures),
        _margins(figures),
        _ablations(figures),
        _adapted(figures),
        _rates(figures),
    ]
    if missing:
        parts.append("Not run yet: " + ", ".join(f"{run.name} (seed {run.seed})" for run in missing) + ".")
    return "\n\n".join(filter(None, parts))


def _networks(figures: Mapping[Run, Figures]) -> str:
    rows = []
    for name in ("biohama", *BASELINES):
        runs = _named(figures, name)
        if runs:
            cells = [_cell(_accuracies(runs, split)) for split in SHOWN]
            rows.append(
                [
                    name,
                    f"{runs[0]['parameters']:,}",
                    *cells,
                    spread([run["training"]["cpu_seconds"] for run in runs], ".0f"),
                ]
            )
    return (
        f"### Macro-average over the tasks\n\n{TUNING}\n\n" + table(["network", "parameters", *SHOWN, "CPU s"], rows)
        if rows
        else ""
    )


def _families(figures: Mapping[Run, Figures]) -> str:
    rows = []
    for family in FAMILIES:
        for name in ("biohama", *BASELINES):
            runs = _named(figures, name)
            if runs:
                rows.append([family, name, *(_cell(_accuracies(runs, split, family)) for split in SHOWN)])
    return "### Task by task\n\n" + table(["task", "network", *SHOWN], rows) if rows else ""


def _margins(figures: Mapping[Run, Figures]) -> str:
    """BioHama against the best baseline, and whether the task tells architectures apart at all."""
    own = _named(figures, "biohama")
    rows = []
    for family in FAMILIES:
        for split in ("in-dist", "longer", "combinations", "OOD"):
            means = {
                name: _mean(_accuracies(_named(figures, name), split, family))
                for name in BASELINES
                if _named(figures, name)
            }
            if own and means:
                best = max(means, key=lambda name: means[name])
                margin = _mean(_accuracies(own, split, family)) - means[best]
                beatable = means[best] <= BEATABLE
                says = (
                    "tells them apart"
                    if beatable and margin >= 0.2
                    else "does not"
                    if not beatable
                    else "under 20 points"
                )
                rows.append([family, split, best, f"{100 * means[best]:.1f}", f"{100 * margin:+.1f}", says])
    return (
        f"### Margin over the best baseline (20 points wanted where it is at most {BEATABLE:.0%})\n\n"
        + table(["task", "split", "best baseline", "its accuracy", "margin, points", ""], rows)
        if rows
        else ""
    )


def _ablations(figures: Mapping[Run, Figures]) -> str:
    whole = _named(figures, "biohama")
    names = list(dict.fromkeys(run.name for run in figures if run.name.startswith("without ")))
    if not whole or not names:
        return ""
    rows = []
    for name in names:
        runs = _named(figures, name)
        same = [found for run, found in figures.items() if run.name == "biohama" and Run(name, run.seed) in figures]
        cells = [_cell(_accuracies(runs, split)) for split in ("in-dist", "longer", "combinations", "OOD")]
        lost = {
            (split, family): _mean(_accuracies(same, split, family)) - _mean(_accuracies(runs, split, family))
            for split in ("in-dist", "OOD")
            for family in (*FAMILIES, "mean")
        }
        worst = max(FAMILIES, key=lambda family: lost["OOD", family])
        contributes = any(
            max(_accuracies(runs, split)) < min(_accuracies(whole, split)) - SAMPLING for split in ("in-dist", "OOD")
        )
        losses = [f"{100 * lost[split, 'mean']:+.1f}" for split in ("in-dist", "OOD")]
        rows.append([name, str(len(runs)), *cells, *losses, worst, "yes" if contributes else "not shown"])
    head = [
        "",
        "seeds",
        "in-dist",
        "longer",
        "combinations",
        "OOD",
        "in-dist lost",
        "OOD lost",
        "most in",
        "contributes",
    ]
    return "### Without one mechanism\n\n" + table(head, rows)


def _adapted(figures: Mapping[Run, Figures]) -> str:
    runs = _named(figures, "biohama")
    if not runs:
        return ""
    rows = []
    for meaning, ways in runs[0]["few_shot"].items():
        for way, row in ways.items():
            sizes = list(row)
            cells = [_cell([run["few_shot"][meaning][way][size] for run in runs]) for size in sizes]
            rows.append([meaning, _KINDS[meaning], way, *cells])
    text = f"### Few-shot: a word without meaning, by size of the support set\n\n{FEW_SHOT}\n\n"
    text += table(["meaning", "gain and step sizes", "way", *sizes], rows)
    grown = [[name, _cell([run["growth"][name] for run in runs])] for name in runs[0]["growth"] if "module" not in name]
    return text + "\n\n### Modules that come and go\n\n" + table(["", "percent"], grown)


def _rates(figures: Mapping[Run, Figures]) -> str:
    """Of the first seed: the rates that were tried, and the chosen one, which is the network's own run."""
    rows = []
    for run, found in figures.items():
        name = run.name.split()[-1]
        if run.seed == 0 and (run.name.startswith("rate ") or run.name in ("biohama", *BASELINES)):
            accuracy = f"{100 * found['accuracy']['validation']['mean']:.1f}"
            rows.append([name, f"{found['training']['rate']:g}", accuracy, "chosen" if run.name == name else ""])
    head = ["network", "rate", "accuracy", ""]
    return "### Learning rates tried (validation, first seed)\n\n" + table(head, sorted(rows)) if rows else ""


def _named(figures: Mapping[Run, Figures], name: str) -> list[Figures]:
    return [found for run, found in figures.items() if run.name == name]


def _accuracies(runs: Iterable[Figures], split: str, family: str = "mean") -> list[float]:
    return [run["accuracy"][split][family] for run in runs]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _cell(values: Sequence[float]) -> str:
    """Shares as percent."""
    return spread([100 * value for value in values], ".1f")
