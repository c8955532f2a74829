"""The machine that is to be kept on its path: a five-axis stage with bias, colored noise, a noisy sensor and a delay.

    position[t] = target[t] + correction[t] + disturbance[t]          disturbance = bias + noise + push
    sensed at t:  position[t - delay] + sensor[t - delay]

A reach goes from home (the origin) to a place along a minimum-jerk path (Flash and Hogan 1985). A pass is several trials of
equal length; a trial starts at rest: the noise is drawn anew and nothing has been sensed yet.

The noise of an axis is a critically damped second-order process, n[t] = 2 p n[t-1] - p^2 n[t-2] + g e[t], independent between
axes. Its correlation, as stated in a scenario, is that of two successive steps, r = 2 p / (1 + p^2); k steps apart it is
p^k (1 + k (1 - p^2) / (1 + p^2)) (Box and Jenkins, the AR(2) process with a double root).

Left out: inertia of the stage; a correction acts at once and in full, so that the loop's delay is the sensor's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from nmri3d.phantoms.cerebellum.config import AXES, Config


@dataclass(frozen=True)
class Scenario:
    """What a pass consists of; lengths in mm and degrees, times in steps.

    place        where the reaches end, [5]
    bias         constant part of the disturbance, [5]; in the second context its sign is reversed
    noise        standard deviation of the colored disturbance, on every axis
    correlation  of the noise between successive steps
    delay        of the loop
    contexts     1, or 2: the trials then alternate between two contexts
    local        the bias acts within about 15 mm of the place only, falling off as a Gaussian
    push         added to the disturbance for a few steps from `push_at` on, [5]
    push_at      step of the pass at which the push starts
    drift        change of the bias from each trial to the next, [5]
    """

    place: tuple[float, ...]
    bias: tuple[float, ...] = (0.0,) * 5
    noise: float = 0.3
    correlation: float = 0.95
    delay: int = 2
    trials: int = 4
    steps: int = 16
    seed: int = 1
    contexts: int = 1
    local: bool = False
    push: tuple[float, ...] = (0.0,) * 5
    push_at: int = 0
    drift: tuple[float, ...] = (0.0,) * 5


@dataclass(frozen=True, eq=False)
class Pass:
    """A scenario as arrays: target, disturbance and sensor noise float32 [trials, steps, 5], context int64 [trials]."""

    target: np.ndarray
    disturbance: np.ndarray
    sensor: np.ndarray
    context: np.ndarray
    delay: int


def path(place: np.ndarray, steps: int) -> np.ndarray:
    """Minimum-jerk reach from home to a place, float64 [steps, 5]; the last step is the place itself."""
    share = np.arange(1, steps + 1)[:, None] / steps
    return (10 * share**3 - 15 * share**4 + 6 * share**5) * np.asarray(place, float)


def double_root(correlation: float) -> float:
    """The root p of a noise whose correlation between successive steps is r: r = 2 p / (1 + p^2)."""
    return correlation / (1 + sqrt(1 - correlation**2))


def colored(random: np.random.Generator, trials: int, steps: int, correlation: float) -> np.ndarray:
    """Noise of unit variance, float64 [trials, steps, 5], each trial drawn from the stationary process."""
    p = double_root(correlation)
    drive = sqrt((1 - p**2) ** 3 / (1 + p**2))
    noise = np.empty((steps, trials, len(AXES)))
    before = random.standard_normal((trials, len(AXES)))
    last = correlation * before + sqrt(1 - correlation**2) * random.standard_normal(before.shape)
    for step in range(steps):
        before, last = last, 2 * p * last - p**2 * before + drive * random.standard_normal(before.shape)
        noise[step] = last
    return noise.swapaxes(0, 1)


def realize(scenario: Scenario, config: Config) -> Pass:
    """Draw a pass; the same scenario always gives the same arrays."""
    random = np.random.default_rng(scenario.seed)
    trials, steps = scenario.trials, scenario.steps
    noise = colored(random, trials, steps, scenario.correlation) * scenario.noise
    sensor = random.standard_normal(noise.shape) * scenario.noise * config.sensor_share
    way = path(np.array(scenario.place), steps)
    context = np.arange(trials) % scenario.contexts
    bias = np.array(scenario.bias) + np.arange(trials)[:, None] * np.array(scenario.drift)
    bias = np.broadcast_to((bias * np.where(context == 0, 1, -1)[:, None])[:, None], noise.shape)
    if scenario.local:
        bias = bias * np.exp(-((way - scenario.place) ** 2).sum(1) / (2 * 15.0**2))[None, :, None]
    disturbance = (noise + bias).reshape(trials * steps, -1)
    disturbance[scenario.push_at : scenario.push_at + config.push_steps] += scenario.push
    return Pass(
        target=np.broadcast_to(way, noise.shape).astype(np.float32),
        disturbance=disturbance.reshape(noise.shape).astype(np.float32),
        sensor=sensor.astype(np.float32),
        context=context.astype(np.int64),
        delay=scenario.delay,
    )
