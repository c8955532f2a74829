"""The tables of the cerebellum's study.

Convention. Cells as in `nmri3d.phantoms.tables`. Variances are shares of the noise's. What counts is the reduction of the
noise, which the bound limits; the hippocampus alone is a weaker thing to compare with, since it lets the noise through and
its memory adds some of its own.

Left out: figures of single seeds; they are in the files of the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nmri3d.phantoms.cerebellum.lesions import WHAT
from nmri3d.phantoms.cerebellum.measure import DELAYS
from nmri3d.phantoms.tables import spread, table
from nmri3d.phantoms.training import Figures, Run

WHOLE, ALONE = "cerebellum", "hippocampus alone"
SHOWN = 0.95
"""Correlation of the noise at which ablations are compared."""


def tables(runs: Sequence[Run], figures: Mapping[Run, Figures]) -> str:
    """Markdown: what the network reaches by correlation and delay, what each function adds, which runs are missing."""
    whole = [found for run, found in figures.items() if run.name == WHOLE]
    missing = [run.key for run in runs if run not in figures]
    blocks = []
    if whole:
        blocks = [_variance_table(whole), _lesions_table(whole), _weak_motor_table(whole), _speed(whole)]
    blocks[1:1] = [_variants_table(runs, figures)]
    blocks.append(_against_alone(figures))
    blocks.append(f"Missing: {', '.join(missing)}." if missing else f"All {len(runs)} runs are there.")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _variance_table(whole: Sequence[Figures]) -> str:
    columns = {
        "with cerebellum": "both",
        "reduction": "reduction_of_noise",
        "bound": "bound",
        "hippocampus alone": "hippocampus",
        "against it": "reduction_against_hippocampus",
        "uncorrected": "uncorrected",
        "bare quadratic": "bare_quadratic",
    }
    rows = []
    for number, first in enumerate(whole[0]["variance"]):
        cells = [spread([found["variance"][number][name] for found in whole]) for name in columns.values()]
        rows.append([f"{first['correlation']:g}", str(first["delay"]), *cells])
    return (
        "Variance of the tracking error as a share of the noise's. Nobody can reduce it by more than the bound; against the "
        "hippocampus alone, whose memory adds noise of its own, it may be more.\n\n"
        + table(["correlation", "delay", *columns], rows)
    )


def _variants_table(runs: Sequence[Run], figures: Mapping[Run, Figures]) -> str:
    rows = []
    for name in dict.fromkeys(run.name for run in runs):
        found = [one for run, one in figures.items() if run.name == name]
        if found:
            bias = [each["bias_by_trial"]["both"] if name == WHOLE else each["bias_by_trial"] for each in found]
            columns = [[each["error"] for each in found], [_variance(each, 2) for each in found]]
            columns += [[100 * each[trial] for each in bias] for trial in (0, 1, 19)]
            rows.append([name, *map(spread, columns)])
    head = ["trained", "rms error", f"variance ({SHOWN:g}, 2)", "bias trial 1, %", "trial 2, %", "trial 20, %"]
    return "Each trained with one function silent from the start.\n\n" + table(head, rows) if rows else ""


def _lesions_table(whole: Sequence[Figures]) -> str:
    rows = [["nothing", spread([found["error"] for found in whole])]]
    rows += [[words, spread([found["error_without"][what] for found in whole])] for what, words in WHAT.items()]
    return "The trained network with one function silenced afterward, rms error in units of the noise.\n\n" + table(
        ["silenced", "rms error"], rows
    )


def _weak_motor_table(whole: Sequence[Figures]) -> str:
    shown = (0, 1, 4, 9, 19)
    rows = [
        [words, *(spread([found["weak_motor"][which][trial] for found in whole]) for trial in shown)]
        for which, words in (("learning", "with climbing-fiber learning"), ("without", "without"))
    ]
    head = ["half the motor gain", *(f"trial {trial + 1}" for trial in shown)]
    return "Root mean square error (mm, degrees) when the motor cells act at half their gain.\n\n" + table(head, rows)


def _speed(whole: Sequence[Figures]) -> str:
    engine, network = (spread([found["step_milliseconds"][name] for found in whole]) for name in ("engine", "network"))
    return f"A correction step takes {engine} ms (median), its network alone {network} ms, where this was measured."


def _against_alone(figures: Mapping[Run, Figures]) -> str:
    """Reduction against a hippocampus that was trained to do without a cerebellum, seed by seed."""
    rows = []
    for delay in DELAYS:
        values = []
        for run, found in figures.items():
            other = figures.get(Run(ALONE, run.seed))
            if run.name == WHOLE and other is not None:
                both, hippocampus = (_variance(one, delay) for one in (found, other))
                values.append(1 - both / hippocampus)
        if values:
            rows.append([f"{SHOWN:g}", str(delay), spread(values)])
    head = ["correlation", "delay", "reduction"]
    return "Against a hippocampus trained alone.\n\n" + table(head, rows) if rows else ""


def _variance(found: Figures, delay: int) -> float:
    return next(row["both"] for row in found["variance"] if (row["correlation"], row["delay"]) == (SHOWN, delay))
