"""How BioHama is trained, compared with baselines of its size, and taken apart.

Convention. Held out are the splits of `tasks`. OOD is the mean of "longer" and "combinations". Learning rates were chosen
for every network alike, on the validation split: `RATES_TRIED`, in whole runs of the first seed (shorter ones favor rates
that do worse in the end). Baselines see the same programs and three times as many updates, since theirs are cheaper. An
ablation is a change of one setting of `Config` (or of the plan), everything else equal. Figures are sequence accuracies, 0
to 1.

Left out: equal tuning of anything but the learning rate: the shares of the families, the curriculum's start, the decision loss,
the noise on slots and the steepness of addresses were chosen for BioHama (the summary says so). Interactions of mechanisms:
pairs of twelve are 66 networks a seed, 5 CPU-minutes each, 17 hours for three seeds. A memory-augmented baseline (a neural
Turing machine, say): it would need four rates and three seeds at BioHama's cost an update; what BioHama's own memory adds is
in the ablations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nmri3d.models.backend import Progress
from nmri3d.models.progress import part
from nmri3d.phantoms.biohama import fewshot, growth
from nmri3d.phantoms.biohama.baselines import BASELINES, count, matched
from nmri3d.phantoms.biohama.fitting import Plan, accuracy, figures_of, fit
from nmri3d.phantoms.biohama.model import BioHama, Config
from nmri3d.phantoms.biohama.summary import tables
from nmri3d.phantoms.biohama.tasks import SPLITS, batch, programs
from nmri3d.phantoms.biohama.truth import RULES, measure
from nmri3d.phantoms.training import Figures, Run, seeded

SEEDS = (0, 1, 2)
RATES_TRIED = (1e-3, 3e-3, 5e-3, 1e-2, 2e-2)
RATES = {"biohama": 3e-3, "lstm": 1e-2, "gru": 3e-3, "transformer": 5e-3}
"""The best on the validation split, of the runs "rate ..."."""

PLAN = Plan(rate=RATES["biohama"])
BASELINE_UPDATES = 3
EPISODES = 40
SPECIALIZING = 300

ABLATIONS: dict[str, dict[str, Any]] = {
    "router": {"routed": False},
    "Hebbian weights": {"hebbian": False},
    "adaptive memory": {"adaptive_memory": False},
    "messages": {"hops": 0},
    "attention": {"levels": ()},
    "memory compression": {"prototypes": 0},
    "STDP": {"stdp": False},
    "consolidation": {"consolidation": False},
    "sparse attention": {"sparse": 48},
    "local attention": {"levels": ("module", "global")},
    "module attention": {"levels": ("local", "global")},
    "global attention": {"levels": ("local", "module")},
}
CURRICULUM = "curriculum"


@dataclass(frozen=True)
class BioHamaRecipe:
    """See `nmri3d.phantoms.training.Recipe`."""

    shipped_seed: int = 0
    config: Config = field(default_factory=Config)

    def configured(self, path: Path) -> BioHamaRecipe:
        """The same recipe for the network whose settings are in a YAML file; the study stays that of the defaults."""
        return replace(self, config=Config.from_yaml(path))

    def ship(self, seed: int, progress: Progress) -> tuple[BioHama, Figures]:
        """Train, adapt, silence each module for the answer key, and measure."""
        network, figures = _trained(self.config, PLAN, seed, part(progress, 0.0, 0.7))
        fewshot.meta_train(network, EPISODES, np.random.default_rng(seed), part(progress, 0.7, 0.85))
        figures["few_shot"] = fewshot.figures_of(network)
        progress(0.9, "silencing modules")
        lesions, own = measure(network)
        network.lesions.copy_(torch.from_numpy(lesions))
        network.own.copy_(torch.from_numpy(own))
        figures["lesions"] = {rule: _rounded(row) for rule, row in zip(RULES, lesions, strict=True)}
        figures["own_steps"] = {rule: _rounded(row) for rule, row in zip(RULES, own, strict=True)}
        figures["growth"] = _growth(network, lesions, own, seed, part(progress, 0.92, 1.0))
        return network.requires_grad_(False), figures

    def runs(self) -> Sequence[Run]:
        """Learning rates but the chosen one, then seed by seed the network, its baselines and its ablations."""
        networks = (*BASELINES, "biohama")
        others = [(rate, name) for name in networks for rate in RATES_TRIED if rate != RATES[name]]
        tried = [Run(f"rate {rate} {name}", SEEDS[0]) for rate, name in others]
        compared = [Run(name, seed) for seed in SEEDS for name in networks]
        taken = [Run(f"without {name}", seed) for seed in SEEDS for name in (*ABLATIONS, CURRICULUM)]
        return (*tried, *compared, *taken)

    def run(self, run: Run, progress: Progress) -> Figures:
        """Train and measure one run of the study."""
        if run.name == "biohama":
            return BioHamaRecipe().ship(run.seed, progress)[1]
        if run.name.startswith("rate "):
            _, rate, name = run.name.split()
            plan = replace(_plan_of(name), rate=float(rate))
            if name == "biohama":
                return _trained(Config(), plan, run.seed, progress)[1]
            return _baseline(name, plan, run.seed, progress)
        if run.name in BASELINES:
            return _baseline(run.name, _plan_of(run.name), run.seed, progress)
        without = run.name.removeprefix("without ")
        plan = replace(PLAN, curriculum=0.0) if without == CURRICULUM else PLAN
        return _trained(replace(Config(), **ABLATIONS.get(without, {})), plan, run.seed, progress)[1]

    def summary(self, figures: Mapping[Run, Figures]) -> str:
        """Tables of the runs that are there."""
        missing = [run for run in self.runs() if run not in figures]
        return tables(figures, missing)


def _plan_of(name: str) -> Plan:
    plan = replace(PLAN, rate=RATES[name])
    return plan if name == "biohama" else replace(plan, updates=plan.updates * BASELINE_UPDATES)


def _trained(config: Config, plan: Plan, seed: int, progress: Progress) -> tuple[BioHama, dict[str, Any]]:
    random, _ = seeded(seed)
    network = BioHama(config)
    return network, _measured(network, plan, random, progress)


def _baseline(name: str, plan: Plan, seed: int, progress: Progress) -> dict[str, Any]:
    random, _ = seeded(seed)
    return _measured(matched(name, count(BioHama())), plan, random, progress)


def _measured(network: nn.Module, plan: Plan, random: np.random.Generator, progress: Progress) -> dict[str, Any]:
    fitted = fit(network, plan, random, part(progress, 0.0, 0.95))
    progress(0.95, "measuring held-out programs")
    found = figures_of(network)
    ood = {name: round((found["longer"][name] + found["combinations"][name]) / 2, 4) for name in found["longer"]}
    return {"parameters": count(network), "accuracy": found | {"OOD": ood}, "training": fitted}


def _growth(
    network: BioHama, lesions: np.ndarray, own: np.ndarray, seed: int, progress: Progress
) -> dict[str, float | None]:
    """A module added and specialized on an operation that none can do; the module removed that is missed least by any rule.

    None for a network that needs all its modules to have enough of them active.
    """
    random = np.random.default_rng([seed, 7])
    new = fewshot.episode(fewshot.NEW, 300, "in-dist", random)
    old = batch(programs("composition", "in-dist", 300, np.random.default_rng([2024, SPLITS.index("in-dist")])))
    grown = growth.with_module(network, int(own[RULES.index("shift")].argmax()))
    growth.specialize(grown, network.config.modules, "shift", SPECIALIZING, random, progress)
    idle = int(lesions.max(axis=0).argmin())
    without = growth.without_module(network, idle) if network.config.modules > network.config.active else None
    return {
        "new operation before": round(accuracy(network, new)[0], 4),
        "new operation after": round(accuracy(grown, new)[0], 4),
        "known composition before": round(accuracy(network, old)[0], 4),
        "known composition after": round(accuracy(grown, old)[0], 4),
        "least needed module": idle,
        "in-dist without it": None if without is None else figures_of(without, 300, ("in-dist",))["in-dist"]["mean"],
    }


def _rounded(row: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in row]


RECIPE = BioHamaRecipe()
