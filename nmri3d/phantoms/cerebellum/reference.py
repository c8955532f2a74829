"""Which places are held out, random scenarios that are not, and the reference stimuli made of them.

Held out, by rule and before any training: every place with x > 0 and z < 0. No scenario of the training or of the reference
reaches there; every figure of `measure` is taken there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmri3d.phantoms.cerebellum.config import Config
from nmri3d.phantoms.cerebellum.plant import Scenario
from nmri3d.phantoms.cerebellum.scenario import write_scenario

PROBE = (30.0, -20.0, -25.0, 15.0, -10.0)
"""A held-out place, whose place cells the answer key names."""

SHAPES = ((2, 16), (4, 8), (3, 12), (4, 16))
"""Trials and steps that reference stimuli have."""


def held_out(place: tuple[float, ...]) -> bool:
    """Whether a place is kept from the training."""
    return place[0] > 0 and place[2] < 0


def random_place(random: np.random.Generator, config: Config, *, of_held_out: bool) -> tuple[float, ...]:
    """A place in the workspace, from the held-out part or from the rest, to 0.1 mm or degree."""
    while True:
        place = tuple(round(float(at), 1) for at in random.uniform(-1, 1, 5) * np.array(config.reach))
        if held_out(place) == of_held_out:
            return place


def random_scenario(random: np.random.Generator, config: Config, trials: int, steps: int, delay: int) -> Scenario:
    """A scenario for training: any noise, correlation and bias, one context or two, at times a push."""
    noise = round(float(np.exp(random.uniform(np.log(0.05), np.log(1.0)))), 3)
    bias = random.normal(size=5) * noise * np.exp(random.uniform(np.log(0.3), np.log(8.0))) * (random.random(5) < 0.5)
    scenario = Scenario(
        place=random_place(random, config, of_held_out=False),
        bias=_rounded(np.clip(bias, -20, 20)),
        noise=noise,
        correlation=round(float(random.uniform(0.88, 0.98)), 3),
        delay=delay,
        trials=trials,
        steps=steps,
        seed=int(random.integers(2**31)),
        contexts=1 + int(random.random() < 0.3),
        local=bool(random.random() < 0.2),
    )
    if random.random() < 0.2:
        push = random.normal(size=5) * noise * 5 * (random.random(5) < 0.3)
        return replace(
            scenario, push=_rounded(np.clip(push, -20, 20)), push_at=int(random.integers(trials * steps - 6))
        )
    return scenario


def reference_texts(config: Config, count: int = 120) -> tuple[str, ...]:
    """Reference stimuli, always the same, none at a held-out place and none with a push."""
    random = np.random.default_rng(20260120)
    texts = []
    for number in range(count):
        delay = 1 + number % config.max_delay
        scenario = random_scenario(random, config, *SHAPES[number % len(SHAPES)], delay)
        texts.append(write_scenario(replace(scenario, push=(0.0,) * 5, push_at=0)))
    return tuple(texts)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 2) for value in values)
