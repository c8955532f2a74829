"""Training the world model: curriculum, two text lengths, the flat baseline, an untrained net of the same clocks, ablations.

Curriculum: the token level learns alone, then the sentence, paragraph and discourse levels join (`STARTS`). Three of four
updates read texts of LONG tokens, every fourth twice as many texts of half that length. The text of update u of seed s is drawn
with seed 10,000 s + u; test text (2,000,000) is only measured on. The flat baseline sees the same texts in the same order.
The weights of the losses were chosen by hand on development text (1,000,000), at the world model's learning rate; the
baseline has none. Its rate is the best there of `RATES_TRIED`, in whole runs of the first seed (the runs "rate ..."); for the
world model 8e-3 would be a little better than the rate that it has.

Left out: anything learned from the hidden states; only the probes, fitted after training, see them. Lower levels are not
trained anew when a higher one joins: all go on together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from nmri3d.models.backend import Progress
from nmri3d.models.progress import part
from nmri3d.phantoms.phantom import Phantom
from nmri3d.phantoms.training import Figures, Run, seeded
from nmri3d.phantoms.world_model import measures, report
from nmri3d.phantoms.world_model.corpus import Hierarchy, sample
from nmri3d.phantoms.world_model.flat import flat_loss, flat_model, size_of
from nmri3d.phantoms.world_model.losses import total
from nmri3d.phantoms.world_model.model import Config, WorldModel

UPDATES, BATCH, LONG = 1200, 64, 96
STARTS = (0.0, 0.04, 0.08, 0.12)
"""Share of the training after which each level takes part."""
RATES_TRIED = (4e-3, 6e-3, 8e-3, 1e-2)
RATES = {"world model": 6e-3, "flat": 8e-3}
"""The baseline's is the best on the development text, of the runs "rate ..."."""

ABLATIONS: Mapping[str, Config] = {
    "without top-down": replace(Config(), top_down=False),
    "fixed clocks": replace(Config(), learned_clocks=False),
    "equal clocks": replace(Config(), least=(0.002,) * 4),
    "without level predictions": replace(Config(), level_weights=(0.0,) * 4, consistency=0.0),
    "without consistency": replace(Config(), consistency=0.0),
    "without stability": replace(Config(), stability=0.0),
    "without flexibility": replace(Config(), flexibility=0.0),
    "without separation": replace(Config(), separation=0.0),
    "without reach": replace(Config(), reach=0.0),
    "without bottleneck": replace(Config(), bottleneck=0.0, noise=0.0),
    "without contrastive": replace(Config(), contrastive=0.0),
    "without depth cost": replace(Config(), depth_cost=0.0),
}
SEEDS = (0, 1, 2)


class WorldModelRecipe:
    """See the module's first lines."""

    shipped_seed = 0

    def ship(self, seed: int, progress: Progress) -> tuple[Phantom, Figures]:
        """The network that is shipped; figures beside those of the flat baseline, the ideal observer and no training."""
        model = _trained(Config(), seed, part(progress, 0.0, 0.8))
        figures = dict(_figures(model))
        model.probe_accuracy = torch.tensor(figures["probes"]["accuracy"])
        figures["flat"] = _flat(seed, part(progress, 0.8, 1.0))
        figures["ideal"] = _ideal()
        seeded(seed)
        figures["untrained"] = _figures(WorldModel())
        return model, figures

    def runs(self) -> Sequence[Run]:
        """Rates but the chosen one; the network, the baseline and the untrained net; then all without a part, seed by seed."""
        others = [(rate, name) for name, chosen in RATES.items() for rate in RATES_TRIED if rate != chosen]
        return [
            *(Run(f"rate {rate} {name}", SEEDS[0]) for rate, name in others),
            *(Run(name, seed) for seed in SEEDS for name in ("world model", "flat", "untrained")),
            *(Run(name, seed) for seed in SEEDS for name in ("without curriculum", *ABLATIONS)),
        ]

    def run(self, run: Run, progress: Progress) -> Figures:
        """Train and measure one run."""
        if run.name.startswith("rate "):
            _, rate, name = run.name.split(maxsplit=2)
            if name == "flat":
                return _flat(run.seed, progress, float(rate))
            return _figures(_trained(Config(), run.seed, progress, rate=float(rate)))
        if run.name == "flat":
            return _flat(run.seed, progress)
        if run.name == "untrained":
            seeded(run.seed)
            return _figures(WorldModel())
        starts = (0.0,) * len(STARTS) if run.name == "without curriculum" else STARTS
        return _figures(_trained(ABLATIONS.get(run.name, Config()), run.seed, progress, starts))

    def summary(self, figures: Mapping[Run, Figures]) -> str:
        """Tables of mean and spread over the seeds, beside the ideal observer."""
        return report.tables(self.runs(), figures, _ideal(), RATES)


def _trained(
    config: Config,
    seed: int,
    progress: Progress,
    starts: Sequence[float] = STARTS,
    rate: float = RATES["world model"],
) -> WorldModel:
    seeded(seed)
    model = WorldModel(config)

    def loss(tokens: torch.Tensor, share: float) -> torch.Tensor:
        model.active = sum(share >= start for start in starts)
        return total(model, tokens)

    fit(model, loss, seed, rate, progress)
    return model.eval().requires_grad_(False)


def fit(
    module: nn.Module,
    loss: Callable[[torch.Tensor, float], torch.Tensor],
    seed: int,
    rate: float,
    progress: Progress,
) -> None:
    """Adam on fresh text at every update; `loss` takes tokens int64 [batch, steps + 1] and the share of training done."""
    hierarchy = Hierarchy()
    descent = torch.optim.Adam(module.parameters(), lr=rate, betas=(0.9, 0.98))
    module.train()
    for update in range(UPDATES):
        share = update / UPDATES
        for group in descent.param_groups:
            group["lr"] = rate * min(1.0, (update + 1) / 40) * _cooling(share)
        texts, length = (BATCH, LONG) if update % 4 else (2 * BATCH, LONG // 2)
        tokens = torch.as_tensor(sample(hierarchy, texts, length + 1, 10_000 * seed + update).tokens)
        value = loss(tokens, share)
        descent.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        descent.step()
        if update % 10 == 0:
            progress(share, f"update {update} of {UPDATES}, loss {value.item():.3f}")
    progress(1.0, "measuring")


def _cooling(share: float) -> float:
    """1 in the first third, then straight down to 0."""
    return min(1.0, 1.5 * (1.0 - share))


def _figures(model: WorldModel) -> dict[str, Any]:
    hierarchy = Hierarchy()
    test = measures.held_out(hierarchy)
    trace = measures.traced(model, test.text.tokens)
    probes = measures.fit_probes(model, hierarchy)
    return {
        "parameters": size_of(model),
        "development": _perplexity(model, measures.development(hierarchy)),
        "perplexity": measures.perplexity(trace.logits, test.text.tokens),
        "probes": measures.probe_accuracy(hierarchy, probes, trace, test),
        "weight": measures.weights_of(model, hierarchy, probes),
        "recovery": measures.recovery(model, test),
        "coherence": measures.coherence(model, trace, test),
        "renewed": [float(gate.mean()) for gate in trace.gates],
        "depth": measures.depth_needed(model, hierarchy, trace, test),
    }


def _ideal() -> dict[str, Any]:
    hierarchy = Hierarchy()
    return {
        "perplexity": measures.ideal_perplexity(measures.held_out(hierarchy)),
        "weight": measures.ideal_weights(hierarchy),
    }


def _flat(seed: int, progress: Progress, rate: float = RATES["flat"]) -> dict[str, Any]:
    seeded(seed)
    model = flat_model(Config())
    fit(model, lambda tokens, _: flat_loss(model, tokens), seed, rate, progress)
    model.eval()
    return {
        "parameters": size_of(model),
        "development": _perplexity(model, measures.development(Hierarchy())),
        "perplexity": _perplexity(model, measures.held_out(Hierarchy()).text.tokens),
    }


def _perplexity(model: nn.Module, tokens: np.ndarray) -> float:
    """In evaluation mode, also of a network that was not trained."""
    with torch.no_grad():
        return measures.perplexity(model.eval()(torch.as_tensor(tokens)), tokens)


RECIPE = WorldModelRecipe()
