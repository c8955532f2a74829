"""How the induction network is trained, and the study beside it: three seeds, and what must fail.

Convention. Cross-entropy of every next token, AdamW with a warm-up and a linear fall, every batch fresh. Training begins with
short texts, in which circuits form within some hundred steps, and goes on with texts of the whole context. By then all heads
share the work alike, since all were pushed alike; so for a while each head has a price by its size, which those pay that are
worth it, and the others fade. The last steps have no price. Runs of the study:

    induction   the network
    one layer   as many heads and parameters of attention in a single block: it cannot compose two heads
    fixed lag   the network, trained with one lag only: it can copy by position

All are measured on the same held-out texts, with lags that vary.

Rates, steps, the price and the width of heads were chosen with seed 0, by the training loss, and by the accuracy and the
number of heads left on the texts of `measuring.DEVELOPMENT_SEED`; the texts of the figures, and seeds 1 and 2, had no say. Of
heads of width 8 six were left and reached 0.80, of width 16 two, and 0.99.

Left out: a schedule for each baseline; all have that of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from nmri3d.models.backend import Progress
from nmri3d.phantoms.induction.measuring import measure, name_heads
from nmri3d.phantoms.induction.model import Config, Induction
from nmri3d.phantoms.induction.task import texts, trained_lags
from nmri3d.phantoms.tables import NOTHING, spread, table
from nmri3d.phantoms.training import Figures, Run, seeded

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Plan:
    """Of a training: `steps` of `batch` texts of `length` tokens, the first words at most `most_first`."""

    steps: int
    batch: int
    length: int
    most_first: int


SHORT, LONG = (
    Plan(steps=200, batch=64, length=40, most_first=16),
    Plan(steps=1_200, batch=32, length=104, most_first=50),
)
LEARNING_RATE, WEIGHT_DECAY, WARM_UP, LARGEST_GRADIENT = 2e-3, 0.01, 50, 1.0
FIXED_LAG = 16
HEAD_PRICE, PRICED_STEPS = 0.02, 500
"""What a head costs by its size, during so many steps of the long texts."""


def train(network: Induction, data: np.random.Generator, progress: Progress, fixed_lag: int | None = None) -> None:
    """Train a network in place; `fixed_lag` is the only lag of its texts where one is given."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98))
    total = SHORT.steps + LONG.steps
    for step in range(total):
        plan = SHORT if step < SHORT.steps else LONG
        lags = trained_lags(plan.most_first) if fixed_lag is None else np.array([fixed_lag])
        ids = torch.from_numpy(texts(data, plan.batch, plan.length, lags, plan.most_first).ids)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / WARM_UP, 2 * (total - step) / total, 1.0)
        loss = cross_entropy(network(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        if SHORT.steps <= step < SHORT.steps + PRICED_STEPS:
            loss = loss + HEAD_PRICE * sum_of_head_sizes(network)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        if step % 20 == 0:
            progress(0.95 * step / total, f"step {step:,} of {total:,}, loss {float(loss.detach()):.3f}")


def sum_of_head_sizes(network: Induction) -> torch.Tensor:
    """Sum over all heads of the Euclidean norm of a head's weights: the penalty of a group lasso (Yuan and Lin 2006)."""
    total = torch.zeros(())
    for block in network.blocks:
        attn = block.attn
        reading = torch.stack([attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight, attn.o_proj.weight.T])
        total = total + reading.unflatten(1, (network.config.n_heads, -1)).square().sum((0, 2, 3)).sqrt().sum()
    return total


class InductionRecipe:
    """See `nmri3d.phantoms.training.Recipe`."""

    shipped_seed = 0

    def ship(self, seed: int, progress: Progress) -> tuple[Induction, Figures]:
        """Train the network that is shipped."""
        return _trained(Config(), seed, None, progress)

    def runs(self) -> Sequence[Run]:
        """Three seeds of the network and of what must fail."""
        return [Run(name, seed) for name in ("induction", "one layer", "fixed lag") for seed in SEEDS]

    def run(self, run: Run, progress: Progress) -> Figures:
        """Train and measure one run."""
        config = Config(n_layers=1, n_heads=16) if run.name == "one layer" else Config()
        return _trained(config, run.seed, FIXED_LAG if run.name == "fixed lag" else None, progress)[1]

    def summary(self, figures: Mapping[Run, Figures]) -> str:
        """Tables of accuracy, and of what the network loses without its heads."""
        rows = []
        for name in dict.fromkeys(run.name for run in self.runs()):
            found = [figures[run] for run in self.runs() if run.name == name and run in figures]
            accuracies = [_over(found, key) for key in ("accuracy", "accuracy on lags never trained")]
            sizes = [f"{found[0]['parameters']:,}", f"{found[0]['chance']:.3f}"] if found else [NOTHING, NOTHING]
            rows.append([name, sizes[0], f"{len(found)} of {len(SEEDS)}", *accuracies, "1.000", sizes[1]])
        head = ["network", "parameters", "runs", "second copy, trained lags", "lags never trained", "ideal", "chance"]
        blocks = [table(head, rows)]
        circuits = {run.seed: figures[run] for run in self.runs() if run.name == "induction" and run in figures}
        if circuits:
            silenced = [[key.removeprefix("without "), _over(list(circuits.values()), key)] for key in _SILENCED]
            blocks.append(table(["heads silenced (lags never trained)", "accuracy"], silenced))
            named = [
                [str(seed), _named(one["previous-token heads"]), _named(one["induction heads"])]
                for seed, one in circuits.items()
            ]
            blocks.append(table(["seed", "previous-token heads", "induction heads"], named))
        return "\n\n".join(blocks)


RECIPE = InductionRecipe()

_SILENCED = (
    "accuracy on lags never trained",
    "without the head missed most",
    "without previous-token heads",
    "without induction heads",
    "without previous-token heads in the induction heads' keys",
    "without previous-token heads in the induction heads' queries",
    "without previous-token heads in the induction heads' values",
    "without the circuit",
    "without as many other heads",
    "without all other heads",
)


def _trained(config: Config, seed: int, fixed_lag: int | None, progress: Progress) -> tuple[Induction, Figures]:
    data, _ = seeded(seed)
    network = Induction(config)
    train(network, data, progress, fixed_lag)
    network.eval().requires_grad_(False)
    progress(0.95, "measuring on held-out texts")
    name_heads(network)
    figures = {"parameters": sum(parameter.numel() for parameter in network.parameters()), **measure(network)}
    progress(1.0, "done")
    return network, figures


def _over(found: Sequence[Figures], key: str) -> str:
    return spread([one[key] for one in found])


def _named(heads: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in heads) or "none"
