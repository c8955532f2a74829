"""The cerebellar circuit: mossy fibers, granule, Purkinje and climbing cells, deep nuclei; one control step at a time.

    mossy     what each function reads, low-passed with learned cutoffs. Prediction: the terms of the error extrapolated over
              the delay d, error + rate d + acceleration d^2 / 2, each filtered (bare, they multiply the sensor's noise), and
              error (d - 2). Trial: mean error of past trials less the memory. Variance: the error, smoothed
    granule   relu(4 random mossy fibers, weighted - threshold * mean |mossy|): a random expansion made sparse by Golgi
              inhibition, of degree 1, so that the circuit works alike on small and on large errors
    Purkinje  -(trained + learned weights) . granule cells of its function: it inhibits, so its sign is that of -correction
    nucleus   -(axons . Purkinje cells of its axis); their weighted sum is the correction of an axis
    learned   climbing fibers carry the tracking error: d weight = rate * climbing * granule[t - delay], normalized (NLMS),
              within a pass, on top of the trained weights (Fujita 1982, the adaptive filter model; Dean et al. 2010)

Which axis and function a Purkinje cell serves, which axis a nucleus cell serves, and which mossy fibers a granule cell reads is
drawn once, before training, and kept with the weights.

Convention. Activities of Purkinje and nucleus cells are deviations from their tonic rate and may be negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import softplus
from transformer_lens.hook_points import HookPoint

from nmri3d.phantoms.cerebellum.config import AXES, FUNCTIONS, SOURCES, Config

N_AXES, N_FUNCTIONS = len(AXES), len(FUNCTIONS)
TRIAL = FUNCTIONS.index("trial")
_CUTOFF = {
    "error": 3.0,
    "error by delay": 3.0,
    "rate": 0.0,
    "acceleration": -1.0,
    "last trial": 3.0,
    "past trials": -2.0,
}
_CUTOFF |= {"smoothed error": 0.5, "steady error": -2.0}


@dataclass(frozen=True, eq=False)
class Sensed:
    """What is sensed at a step, each float32 [batch, 5].

    error          target - position, as it was `delay` steps ago
    uncorrected    the same without the correction of that time
    deviation      what of it neither memory nor trial-to-trial correction expected
    rate, acceleration   of the deviation, a step and a step squared; zero until enough steps were sensed
    """

    error: torch.Tensor
    uncorrected: torch.Tensor
    deviation: torch.Tensor
    rate: torch.Tensor
    acceleration: torch.Tensor


@dataclass(eq=False)
class CircuitState:
    """What the circuit carries from step to step (filtered, granules) and from trial to trial (past, learned).

    past      low-passed mean uncorrected error of past trials in this context, [batch, 2, 5]
    trials    how many they are, [batch, 1]
    learned   [batch, functions, 5, granules], what climbing fibers added to the weights
    filtered  [batch, step sources, 5]
    granules  of the steps of this trial, each [batch, functions, granules]
    """

    past: torch.Tensor
    trials: torch.Tensor
    learned: torch.Tensor
    filtered: torch.Tensor
    granules: list[torch.Tensor]


class CerebellarCircuit(nn.Module):
    """Weights and wiring of the circuit; see the module's first lines."""

    claws: torch.Tensor
    purkinje_axis: torch.Tensor
    purkinje_function: torch.Tensor
    nucleus_axis: torch.Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        sources = [source for function in FUNCTIONS for source in SOURCES[function]]
        self.mossy_gain = nn.Parameter(torch.ones(len(sources), N_AXES))
        self.mossy_cutoff = nn.Parameter(torch.tensor([[_CUTOFF[s]] * N_AXES for s in sources]))

        claws, first = [], 0
        for function in FUNCTIONS:
            n = len(SOURCES[function]) * N_AXES
            claws.append(first + torch.rand(config.granules, n).argsort(1)[:, : config.claws])
            first += n
        self.register_buffer("claws", torch.cat(claws))
        self.dendrite = nn.Parameter(torch.randn(N_FUNCTIONS * config.granules, config.claws))
        self.threshold = nn.Parameter(torch.randn(N_FUNCTIONS * config.granules) * 0.3)

        n_purkinje = N_AXES * N_FUNCTIONS * config.purkinje_copies
        shuffled = torch.randperm(n_purkinje)
        self.register_buffer("purkinje_axis", shuffled % N_AXES)
        self.register_buffer("purkinje_function", shuffled // N_AXES % N_FUNCTIONS)
        self.register_buffer("nucleus_axis", torch.randperm(N_AXES * config.nucleus_copies) % N_AXES)
        self.parallel = nn.Parameter(torch.randn(n_purkinje, config.granules) * 0.02)
        axon = (0.5 + torch.rand(n_purkinje, config.nucleus_copies)) / config.purkinje_copies
        self.axon = nn.Parameter(axon)
        self.nucleus_weight = nn.Parameter((0.5 + torch.rand(len(self.nucleus_axis))) / config.nucleus_copies)
        self.learning_rate = nn.Parameter(torch.full((N_AXES, N_FUNCTIONS), -3.0))

        self.hook_climbing, self.hook_mossy = HookPoint(), HookPoint()
        self.hook_granule, self.hook_purkinje, self.hook_nucleus = HookPoint(), HookPoint(), HookPoint()

    def begin(self, batch: int, device: torch.device) -> CircuitState:
        """Before the first trial: nothing learned, nothing sensed."""
        step_sources = len(SOURCES["prediction"]) + len(SOURCES["variance"])
        return CircuitState(
            past=torch.zeros(batch, len(SOURCES["trial"]), N_AXES, device=device),
            trials=torch.zeros(batch, 1, device=device),
            learned=torch.zeros(batch, N_FUNCTIONS, N_AXES, self.config.granules, device=device),
            filtered=torch.zeros(batch, step_sources, N_AXES, device=device),
            granules=[],
        )

    def begin_trial(self, state: CircuitState) -> None:
        """At rest: the filters are empty."""
        state.filtered = torch.zeros_like(state.filtered)
        state.granules = []

    def end_trial(self, state: CircuitState, mean_error: torch.Tensor, known: torch.Tensor) -> None:
        """Take the trial's mean uncorrected error [batch, 5] into what is known of past trials.

        Low-pass filters that start as plain means: the share of the n-th trial in a context is c + (1 - c) / n. A new context
        (`known` [batch, 1] is 0) starts anew.
        """
        first = len(SOURCES["prediction"])
        cutoff = torch.sigmoid(self.mossy_cutoff[first : first + len(SOURCES["trial"])])
        state.trials = state.trials * known + 1
        share = cutoff + (1 - cutoff) / state.trials[..., None]
        state.past = state.past + share * (mean_error[:, None] - state.past)

    def axons_to_nuclei(self) -> torch.Tensor:
        """[Purkinje cells, nucleus cells]: a Purkinje cell's axons end at the nucleus cells of its axis."""
        of_axis = torch.stack([torch.nonzero(self.nucleus_axis == axis).flatten() for axis in range(N_AXES)])
        full = self.axon.new_zeros(len(self.axon), len(self.nucleus_axis))
        return full.scatter(1, of_axis[self.purkinje_axis], self.axon)

    def nuclei_to_axes(self) -> torch.Tensor:
        """[nucleus cells, 5]."""
        full = self.axon.new_zeros(len(self.nucleus_axis), N_AXES)
        return full.scatter(1, self.nucleus_axis[:, None], self.nucleus_weight[:, None])

    def learn(self, state: CircuitState, error: torch.Tensor, granule: torch.Tensor) -> None:
        """Climbing fibers' error [batch, 5] meets the granule cells of the step that it is about."""
        rate = torch.sigmoid(self.learning_rate).T[..., None]
        climbing = error[:, None, :, None]
        size = granule.square().sum(-1)[:, :, None, None] + granule.shape[-1] * climbing.square()
        state.learned = state.learned + rate * climbing * granule[:, :, None] / (size + 1e-9)

    def fibers(
        self, state: CircuitState, sensed: Sensed | None, remembered: torch.Tensor, known: torch.Tensor, delay: int
    ) -> torch.Tensor:
        """Activity of the mossy fibers, [batch, fibers]; `known` [batch, 1]: 1 where the last trial had this context."""
        first, last = len(SOURCES["prediction"]), len(SOURCES["prediction"]) + len(SOURCES["trial"])
        if sensed is not None:
            level = sensed.deviation
            ahead = (level, level * (delay - 2), sensed.rate * delay, sensed.acceleration * (0.5 * delay**2))
            source = torch.stack((*ahead, level, level), 1)
            share = torch.sigmoid(torch.cat([self.mossy_cutoff[:first], self.mossy_cutoff[last:]]))
            state.filtered = state.filtered + share * (source - state.filtered)
        trial = (state.past - remembered[:, None]) * known[..., None]
        return (torch.cat([state.filtered[:, :first], trial, state.filtered[:, first:]], 1) * self.mossy_gain).flatten(
            1
        )

    def expand(self, mossy: torch.Tensor) -> torch.Tensor:
        """Activity of the granule cells, [batch, cells], of mossy fibers [batch, fibers]."""
        read = mossy[:, self.claws]
        strength = read.abs().mean(-1).unflatten(1, (N_FUNCTIONS, -1)).mean(-1)
        golgi = strength.repeat_interleave(self.config.granules, 1)
        return torch.relu((read * self.dendrite).sum(-1) - softplus(self.threshold) * golgi)

    def inhibit(self, granule: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
        """Activity of the Purkinje cells, [batch, cells], of granule cells [batch, functions, granules]."""
        trained = (granule[:, self.purkinje_function] * self.parallel).sum(-1)
        fast = torch.einsum("bfg,bfag->bfa", granule, learned)
        return -(trained + fast[:, self.purkinje_function, self.purkinje_axis])
