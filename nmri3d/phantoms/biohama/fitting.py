"""Fitting a network to the programs: curriculum, warm-up, gradient clipping per module, losses, accuracy.

Convention. A network takes operations and symbols, int64 [batch, steps], and gives logits [batch, steps, outputs].
Everything follows from the seed. The training set is drawn once; the curriculum lets longer programs in as training goes
on. A program counts as right when every answer that is due in it is right (sequence accuracy).

The loss is cross-entropy at the answers that are due, a little of it at the steps where none is ("-"), and for a routed
network minus the mutual information H(module) - H(module | operation), every operation counting equally, so that a step is sent
to one module and the modules are all used; and how undecided memory's addresses are. Which module takes which operation is not
told.

Left out: which networks and how many (`training`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nmri3d.errors import InputError
from nmri3d.models.backend import Progress
from nmri3d.phantoms.biohama.language import OPERATIONS
from nmri3d.phantoms.biohama.model import BioHama
from nmri3d.phantoms.biohama.tasks import FAMILIES, SPLITS, TRAINING, Batch, Family, Split, batch, programs

QUIET = 0.05
"""Weight of the steps where no answer is due."""

SHARES: dict[Family, float] = {"composition": 0.6, "chains": 0.25, "context": 0.15}
"""Of each family in an update: more of what is learned more slowly (seen in a first run on the training programs)."""

ROUTING = 0.3
"""Weight of the mutual information between step and module."""

START = 0.4
"""How far the curriculum has grown when it starts: after a single step "turn" and "swap" give the same answer, and a router
that meets only such programs sends both to one module."""

DECIDING = 0.3
"""Weight of how undecided memory's addresses are; it grows from DECIDING_FROM to DECIDING_TO, shares of training. Symbols that
lie on top of each other can be told apart for a few steps, but not for many."""

DECIDING_FROM, DECIDING_TO = 0.15, 0.6

COMMITTED = 0.1
"""Share of training after which H(module | operation) has its full weight: a router that commits at once sends operations
that need different wirings to one module, and stays there (seen in a first run)."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast: updates, programs an update, largest learning rate, warm-up updates, training programs a family.

    curriculum   share of training after which all lengths are in; 0: all from the start
    """

    updates: int = 1500
    programs: int = 72
    rate: float = 3e-3
    warm_up: int = 100
    drawn: int = 5_000
    curriculum: float = 0.3


class TrainingSet:
    """Programs of all families, and random batches of them up to a share of each family's lengths."""

    def __init__(self, drawn: int, random: np.random.Generator) -> None:
        self._random = random
        self._families: list[tuple[Family, Batch]] = []
        for family in FAMILIES:
            data = batch(programs(family, "training", drawn, random))
            self._families.append((family, data.take(np.argsort(data.lengths, kind="stable"))))

    def draw(self, n: int, grown: float) -> Batch:
        """About n programs, families by `SHARES`, of lengths up to `grown` (0 to 1) of the way from shortest to longest."""
        found = []
        for family, data in self._families:
            low, high = TRAINING[family]
            longest = low + min(high - low, int(grown * (high - low + 1)))
            within = int(np.searchsorted(data.lengths, longest, side="right"))
            found.append(data.take(self._random.integers(within, size=round(n * SHARES[family]))))
        return _together(found)


class Clipping:
    """Each child module's gradient is cut to twice its usual norm (a running geometric mean), so that none explodes alone."""

    def __init__(self, network: nn.Module, excess: float = 2.0) -> None:
        self._groups = [
            list(child.parameters()) for child in network.children() if any(True for _ in child.parameters())
        ]
        own = list(network.parameters(recurse=False))
        self._groups += [own] if own else []
        self._usual = [math.nan] * len(self._groups)
        self._excess = excess

    def __call__(self) -> float:
        """Cut the gradients that are there; returns the share of groups that were cut."""
        cut = 0
        for number, group in enumerate(self._groups):
            usual = self._usual[number]
            largest = self._excess * usual if usual == usual else math.inf
            norm = float(nn.utils.clip_grad_norm_(group, largest if math.isfinite(largest) else 1e9))
            cut += norm > largest
            seen = math.log(max(min(norm, largest), 1e-12))
            self._usual[number] = math.exp(seen if usual != usual else 0.95 * math.log(usual) + 0.05 * seen)
        return cut / len(self._groups)


def fit(network: nn.Module, plan: Plan, random: np.random.Generator, progress: Progress) -> dict[str, float]:
    """Train a network in place; returns updates, rate, CPU seconds, final loss (running mean), share of gradients cut.

    Raises InputError where the loss is no longer finite.
    """
    started = time.process_time()
    data = TrainingSet(plan.drawn, random)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-3, betas=(0.9, 0.98))
    clip, running, cut = Clipping(network), math.nan, 0.0
    network.train()
    for update in range(plan.updates):
        share = update / plan.updates
        warm = min(1.0, (update + 1) / plan.warm_up)
        optimizer.param_groups[0]["lr"] = plan.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        grown = min(1.0, START + (1 - START) * share / plan.curriculum) if plan.curriculum else 1.0
        drawn = data.draw(plan.programs, grown)
        loss = loss_of(network, drawn, min(1.0, share / COMMITTED), _grown(share, DECIDING_FROM, DECIDING_TO))
        if not math.isfinite(loss.item()):
            raise InputError(
                f"training diverged at update {update} of {plan.updates}; take a lower rate than {plan.rate}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        cut += clip()
        optimizer.step()
        running = loss.item() if running != running else 0.98 * running + 0.02 * loss.item()
        if update % 50 == 0:
            progress(share, f"update {update} of {plan.updates}, loss {running:.3f}")
    network.eval()
    return {
        "updates": plan.updates,
        "rate": plan.rate,
        "cpu_seconds": round(time.process_time() - started, 1),
        "loss": round(running, 4),
        "share_clipped": round(cut / plan.updates, 4),
    }


def loss_of(network: nn.Module, data: Batch, commitment: float = 1.0, decision: float = 1.0) -> torch.Tensor:
    """The training loss of a batch, a scalar; `commitment` and `decision`, 0 to 1, weigh doubt and undecided addresses."""
    operations, symbols = torch.from_numpy(data.operations), torch.from_numpy(data.symbols)
    answers = torch.from_numpy(data.answers)
    working = operations != OPERATIONS.index("wait")
    whole = network.run(operations, symbols) if isinstance(network, BioHama) else None
    logits = network(operations, symbols) if whole is None else whole.logits
    losses = functional.cross_entropy(logits.flatten(0, 1), answers.clamp(min=0).flatten(), reduction="none")
    due = (answers >= 0).flatten()
    loss = losses[due].mean() + QUIET * losses[~due & working.flatten()].mean()
    if whole is None:
        return loss
    spread, doubt = _routing(whole.routes[working], operations[working])
    return loss + ROUTING * (commitment * doubt - spread) + DECIDING * decision * whole.undecided[working].mean()


def _grown(share: float, start: float, stop: float) -> float:
    return min(1.0, max(0.0, (share - start) / (stop - start)))


def _routing(routes: torch.Tensor, operations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """H(module) and H(module | operation), nats, every operation counting equally; routes [steps, modules]."""
    present, which = operations.unique(return_inverse=True)
    share = functional.one_hot(which, len(present)).float()
    share = share / share.sum(dim=0)
    of_operation = share.T @ routes
    return _entropy(of_operation.mean(dim=0)), _entropy(of_operation).mean()


def _entropy(shares: torch.Tensor) -> torch.Tensor:
    return -(shares * (shares + 1e-9).log()).sum(dim=-1)


def accuracy(network: nn.Module, data: Batch) -> tuple[float, float]:
    """Share of programs with every due answer right, and share of due answers right."""
    logits = []
    with torch.no_grad():
        for start in range(0, len(data), 500):
            rows = slice(start, start + 500)
            logits.append(network(torch.from_numpy(data.operations[rows]), torch.from_numpy(data.symbols[rows])))
    return accuracy_of(torch.cat(logits), data)


def accuracy_of(logits: torch.Tensor, data: Batch) -> tuple[float, float]:
    """As `accuracy`, of logits that are there."""
    right, due = logits.argmax(dim=2).numpy() == data.answers, data.answers >= 0
    return float((right | ~due).all(axis=1).mean()), float(right[due].mean())


def figures_of(network: nn.Module, n: int = 1000, splits: tuple[Split, ...] = SPLITS) -> dict[str, dict[str, float]]:
    """Sequence accuracy by split and family, "mean" being the macro-average; the programs are the same for every network."""
    found: dict[str, dict[str, float]] = {}
    for split in splits:
        random = np.random.default_rng([2024, SPLITS.index(split)])
        row = {family: accuracy(network, batch(programs(family, split, n, random)))[0] for family in FAMILIES}
        found[split] = {name: round(value, 4) for name, value in row.items()}
        found[split]["mean"] = round(sum(row.values()) / len(row), 4)
    return found


def _together(found: list[Batch]) -> Batch:
    steps = max(data.operations.shape[1] for data in found)

    def padded(name: str, value: int) -> np.ndarray:
        arrays = [getattr(data, name) for data in found]
        return np.concatenate([np.pad(a, ((0, 0), (0, steps - a.shape[1])), constant_values=value) for a in arrays])

    return Batch(
        padded("operations", 0), padded("symbols", 0), padded("answers", -1), np.concatenate([d.lengths for d in found])
    )
