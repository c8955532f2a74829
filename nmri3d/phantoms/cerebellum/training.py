"""How the cerebellum phantom is trained, and the study of its seeds, its baseline and its ablations.

Convention. Everything is trained on places that are not held out (`reference.held_out`) and measured on those that are
(`measure`). Ablations and the hippocampus alone are trained from the same seed, as long and on the same scenarios as the
whole, with one function silent from the start. Length and rates of the training were chosen once, by the training loss and
the time. Three things were decided after looking at held-out places in quick trials: the memory is slow and has gain 1, the
mean of past trials starts as a plain mean, and the variance is taken at a fixed place. The figures are therefore
taken with places and noise drawn afterward from another seed, which decided nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from nmri3d.models.backend import Progress
from nmri3d.models.progress import part
from nmri3d.phantoms.cerebellum.fitting import Fit, fit
from nmri3d.phantoms.cerebellum.lesions import WHAT, without
from nmri3d.phantoms.cerebellum.measure import DELAYS, bias_by_trial, figures, mixed_error, step_milliseconds, variance
from nmri3d.phantoms.cerebellum.model import Cerebellum
from nmri3d.phantoms.phantom import Phantom
from nmri3d.phantoms.training import Figures, Run, seeded

WHOLE, ALONE = "cerebellum", "hippocampus alone"
ABLATIONS = {f"without {what}": what for what in ("prediction", "trial", "variance", "memory", "learning")}
SEEDS = (0, 1, 2)


class CerebellumRecipe:
    """See `nmri3d.phantoms.training.Recipe`."""

    shipped_seed = 0

    def __init__(self, settings: Fit | None = None) -> None:
        self.settings = settings or Fit()

    def ship(self, seed: int, progress: Progress) -> tuple[Phantom, Figures]:
        """Train the whole network and measure all that `measure` knows."""
        network, last = self._trained(WHOLE, seed, part(progress, 0.0, 0.9))
        progress(0.9, "measuring at held-out places")
        found = {"seed": seed, "training_loss": last, **figures(network)}
        return network, found | {"step_milliseconds": round(step_milliseconds(network), 3)}

    def runs(self) -> Sequence[Run]:
        """Three seeds of the network, of the hippocampus alone, and of each ablation."""
        return [Run(name, seed) for seed in SEEDS for name in (WHOLE, ALONE, *ABLATIONS)]

    def run(self, run: Run, progress: Progress) -> Figures:
        """The whole network with every figure, the others with what the tables need."""
        network, last = self._trained(run.name, run.seed, part(progress, 0.0, 0.9))
        progress(0.9, "measuring at held-out places")
        found = {"training_loss": last, "error": mixed_error(network), "bias_by_trial": bias_by_trial(network)}
        if run.name == WHOLE:
            return {**figures(network), "training_loss": last}
        alone = without(network, "cerebellum")
        return found | {"variance": [variance(network, alone, 0.95, delay) for delay in DELAYS]}

    def summary(self, figures: Mapping[Run, Figures]) -> str:
        """What the whole network reaches by correlation and delay, and what each function adds."""
        whole = [found for run, found in figures.items() if run.name == WHOLE]
        alone = {run.seed: found for run, found in figures.items() if run.name == ALONE}
        missing = [run.key for run in self.runs() if run not in figures]
        blocks = [_variance_table(whole), _variants_table(figures), _lesions_table(whole)]
        blocks.append(_weak_motor_table(whole))
        if alone:
            blocks.append(_against_alone(figures))
        blocks.append(f"Missing: {', '.join(missing)}." if missing else f"All {len(self.runs())} runs are there.")
        return "\n\n".join(block for block in blocks if block) + "\n"

    def _trained(self, name: str, seed: int, progress: Progress) -> tuple[Cerebellum, float]:
        random, _ = seeded(seed)
        network = Cerebellum()
        if name != WHOLE:
            network = without(network, "cerebellum" if name == ALONE else ABLATIONS[name])
        losses = fit(network, random, self.settings, progress)
        return network.eval().requires_grad_(False), mean(losses[-50:])


def _spread(values: Sequence[float], form: str = ".3f") -> str:
    text = format(mean(values), form)
    return f"{text} ± {format(stdev(values), form)}" if len(values) > 1 else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _variance_table(whole: Sequence[Figures]) -> str:
    if not whole:
        return ""
    rows = []
    for number, first in enumerate(whole[0]["variance"]):

        def of(name: str, at: int = number) -> str:
            return _spread([found["variance"][at][name] for found in whole])

        columns = ("hippocampus", "both", "bare_quadratic", "reduction", "reduction_of_noise", "bound")
        rows.append([f"{first['correlation']:g}", str(first["delay"]), *map(of, columns)])
    head = [
        "correlation",
        "delay",
        "hippocampus alone",
        "with cerebellum",
        "bare quadratic",
        "reduction",
        "of noise",
        "bound",
    ]
    return "Tracking-error variance as a share of the noise's; reduction against the hippocampus alone.\n\n" + _table(
        head, rows
    )


def _variants_table(figures: Mapping[Run, Figures]) -> str:
    rows = []
    for name in (WHOLE, ALONE, *ABLATIONS):
        found = [one for run, one in figures.items() if run.name == name]
        if found:
            bias = [each["bias_by_trial"]["both"] if name == WHOLE else each["bias_by_trial"] for each in found]
            columns = [[each["error"] for each in found], [_variance(each, 2) for each in found]]
            columns += [[100 * each[trial] for each in bias] for trial in (0, 1, 19)]
            rows.append([name, *map(_spread, columns)])
    head = ["trained", "rms error", "variance (0.95, 2)", "bias trial 1, %", "trial 2, %", "trial 20, %"]
    return "Each trained with one function silent from the start.\n\n" + _table(head, rows) if rows else ""


def _lesions_table(whole: Sequence[Figures]) -> str:
    if not whole:
        return ""
    rows = [["nothing", _spread([found["error"] for found in whole])]]
    rows += [[words, _spread([found["error_without"][what] for found in whole])] for what, words in WHAT.items()]
    return "The trained network with one function silenced afterward, rms error in units of the noise.\n\n" + _table(
        ["silenced", "rms error"], rows
    )


def _weak_motor_table(whole: Sequence[Figures]) -> str:
    if not whole:
        return ""
    shown = (0, 1, 4, 9, 19)
    rows = [
        [words, *(_spread([found["weak_motor"][which][trial] for found in whole]) for trial in shown)]
        for which, words in (("learning", "with climbing-fiber learning"), ("without", "without"))
    ]
    head = ["half the motor gain", *(f"trial {trial + 1}" for trial in shown)]
    return "Root mean square error (mm, degrees) when the motor cells act at half their gain.\n\n" + _table(head, rows)


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
            rows.append(["0.95", str(delay), _spread(values)])
    head = ["correlation", "delay", "reduction"]
    return "Against a hippocampus trained alone.\n\n" + _table(head, rows) if rows else ""


def _variance(found: Figures, delay: int) -> float:
    return next(row["both"] for row in found["variance"] if (row["correlation"], row["delay"]) == (0.95, delay))


RECIPE = CerebellumRecipe()
