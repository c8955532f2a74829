"""Fitting the cerebellum phantom: gradient descent through the closed loop, on simulated passes.

Loss: pseudo-Huber (Charbonnier) of the tracking error in units of the noise, so that small and large disturbances weigh alike
and the first trial of a large bias, which nobody can foresee, does not drown the rest. Adam with a cosine schedule; the time
constants and gains (few, and of order one) take larger steps than the synapses.

Left out: measuring, which is `measure`; nothing here sees a held-out place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nmri3d.models.backend import Progress, no_progress
from nmri3d.phantoms.cerebellum.model import Cerebellum
from nmri3d.phantoms.cerebellum.plant import Scenario, realize
from nmri3d.phantoms.cerebellum.reference import random_scenario

SYNAPSES = ("dendrite", "threshold", "parallel", "axon", "nucleus_weight", "share", "phase")

SHAPES = ((4, 16), (6, 10), (2, 32), (8, 8), (12, 6))
"""Trials and steps of the passes that are trained on."""


@dataclass(frozen=True)
class Fit:
    """How long and how fast."""

    passes: int = 600
    batch: int = 32
    rate: float = 4e-3
    gate_rate: float = 2e-2
    huber: float = 2.0


def stacked(scenarios: Sequence[Scenario], network: Cerebellum) -> dict[str, torch.Tensor]:
    """Inputs of the network for scenarios of equal length and delay, one a row of the batch."""
    drawn = [realize(scenario, network.config) for scenario in scenarios]
    return {
        "target": torch.from_numpy(np.stack([one.target for one in drawn])),
        "disturbance": torch.from_numpy(np.stack([one.disturbance for one in drawn])),
        "sensor": torch.from_numpy(np.stack([one.sensor for one in drawn])),
        "context": torch.from_numpy(np.stack([one.context for one in drawn])),
        "delay": torch.tensor([one.delay for one in drawn]),
    }


def fit(
    network: Cerebellum, random: np.random.Generator, settings: Fit, progress: Progress = no_progress
) -> list[float]:
    """Train in place; returns the loss of every pass."""
    named = dict(network.named_parameters())
    slow = [value for name, value in named.items() if name.rsplit(".", 1)[-1] in SYNAPSES]
    fast = [value for name, value in named.items() if name.rsplit(".", 1)[-1] not in SYNAPSES]
    optimizer = torch.optim.Adam([{"params": slow, "lr": settings.rate}, {"params": fast, "lr": settings.gate_rate}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [settings.rate, settings.gate_rate], total_steps=settings.passes, pct_start=0.1
    )
    losses: list[float] = []
    for number in range(settings.passes):
        trials, steps = SHAPES[int(random.integers(len(SHAPES)))]
        delay = 1 + number % network.config.max_delay
        scenarios = [random_scenario(random, network.config, trials, steps, delay) for _ in range(settings.batch)]
        size = torch.tensor([scenario.noise for scenario in scenarios])[:, None, None, None]
        error = network.loop(**stacked(scenarios, network)) / size
        loss = settings.huber**2 * ((1 + (error / settings.huber).square()).sqrt() - 1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if number % 10 == 0:
            progress(number / settings.passes, f"loss {np.mean(losses[-30:]):.3f}")
    return losses
