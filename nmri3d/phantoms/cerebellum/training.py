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
from statistics import mean

from nmri3d.models.backend import Progress
from nmri3d.models.progress import part
from nmri3d.phantoms.cerebellum.fitting import Fit, fit
from nmri3d.phantoms.cerebellum.lesions import without
from nmri3d.phantoms.cerebellum.measure import DELAYS, bias_by_trial, figures, mixed_error, variance
from nmri3d.phantoms.cerebellum.model import Cerebellum
from nmri3d.phantoms.cerebellum.summary import ALONE, SHOWN, WHOLE, tables
from nmri3d.phantoms.phantom import Phantom
from nmri3d.phantoms.training import Figures, Run, seeded

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
        return network, {"seed": seed, "training_loss": last, **figures(network)}

    def runs(self) -> Sequence[Run]:
        """Three seeds of the network, of the hippocampus alone, and of each ablation."""
        return [Run(name, seed) for seed in SEEDS for name in (WHOLE, ALONE, *ABLATIONS)]

    def run(self, run: Run, progress: Progress) -> Figures:
        """The whole network with every figure, the others with what the tables need."""
        network, last = self._trained(run.name, run.seed, part(progress, 0.0, 0.9))
        progress(0.9, "measuring at held-out places")
        if run.name == WHOLE:
            return {"training_loss": last, **figures(network)}
        alone = without(network, "cerebellum")
        return {
            "training_loss": last,
            "error": mixed_error(network),
            "bias_by_trial": bias_by_trial(network),
            "variance": [variance(network, alone, SHOWN, delay) for delay in DELAYS],
        }

    def summary(self, figures: Mapping[Run, Figures]) -> str:
        """The tables of `summary`."""
        return tables(self.runs(), figures)

    def _trained(self, name: str, seed: int, progress: Progress) -> tuple[Cerebellum, float]:
        random, _ = seeded(seed)
        network = Cerebellum()
        if name != WHOLE:
            network = without(network, "cerebellum" if name == ALONE else ABLATIONS[name])
        losses = fit(network, random, self.settings, progress)
        return network.eval().requires_grad_(False), mean(losses[-50:])


RECIPE = CerebellumRecipe()
