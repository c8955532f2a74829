"""`CerebellumEngine`: the trained circuit as a controller of one machine, NumPy in and out, a step at a time.

    engine = CerebellumEngine(memory, network, delay=2)
    engine.begin_trial(context)
    correction = engine.compute_correction(current_state, target_state, velocity, acceleration, context)     # every step
    engine.end_trial()
    memory.store(*engine.experience(context)); memory.consolidate(context)                         # the hippocampus' own work

The machine adds the correction to its target: final_target = target + correction, where the correction is the remembered
bias (hippocampus) and what the cerebellum adds. Every part acts to reduce the error, target - current.

Convention. States are [x, y, z, theta_a, theta_b] in mm and degrees, velocity and acceleration in these a step and a step
squared. `current_state`, `velocity` and `acceleration` are what is sensed now, so as they were `delay` steps ago. The engine
reads the memory and never writes to it.

Left out: reading sensors, and time; a step is whatever the machine's control cycle is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.phantoms.cerebellum.circuit import N_AXES
from nmri3d.phantoms.cerebellum.config import AXES, FUNCTIONS
from nmri3d.phantoms.cerebellum.loop import Loop
from nmri3d.phantoms.cerebellum.memory import UniversalMemory, context_number
from nmri3d.phantoms.cerebellum.model import Cerebellum


class CerebellumEngine:
    """See the module's first lines; `delay` is the machine's loop delay in steps."""

    def __init__(self, memory: UniversalMemory, network: Cerebellum, *, delay: int = 2) -> None:
        if not 1 <= delay <= network.config.max_delay:
            raise InputError(
                f"the loop delay is {delay} steps, and the network was trained for 1 to {network.config.max_delay}"
            )
        self.memory, self.network, self.delay = memory, network, delay
        self._device = network.motor_gain.device
        with torch.no_grad():
            self._loop = Loop(network, 1, self._device)
        self._targets: list[np.ndarray] = []
        self._context: int | None = None

    def begin_trial(self, context: dict[str, Any]) -> None:
        """At rest at home; `context["context_id"]` (default 0) chooses what is remembered.

        Raises InputError for a context that the memory does not keep.
        """
        self._context = self._number(context)
        self._targets = []
        self._loop.begin_trial(torch.tensor([self._context], device=self._device))

    @torch.no_grad()
    def compute_correction(
        self,
        current_state: np.ndarray | None,
        target_state: np.ndarray,
        velocity: np.ndarray,
        acceleration: np.ndarray,
        context: dict[str, Any],
    ) -> np.ndarray:
        """The correction of this step, float32 [5], to be added to `target_state`, the target of this step.

        current_state is None in the first `delay` steps of a trial, when nothing has been sensed yet; velocity is used from
        one step later on, acceleration from two. The context is that of the trial. Raises InputError where no trial has begun,
        the context is another one, the state is None later or given earlier, or what is given is not five numbers.
        """
        self._must_be_under_way()
        if self._number(context) != self._context:
            raise InputError(
                f"this trial was begun in context {self._context}, and the step is of context {self._number(context)}; begin "
                "a new trial where the context changes"
            )
        step = len(self._targets)
        if (current_state is None) != (step < self.delay):
            raise InputError(
                f"at step {step} of a trial with a delay of {self.delay} the current state must be "
                + ("None, nothing is sensed yet" if step < self.delay else "what was sensed, not None")
            )
        target = _five(target_state, "target state")
        if current_state is not None:
            seen = [*self._targets, target][max(0, step - self.delay - 2) : step - self.delay + 1]
            rate = seen[-1] - seen[-2] if len(seen) > 1 else np.zeros(N_AXES)
            bend = seen[-1] - 2 * seen[-2] + seen[-3] if len(seen) > 2 else np.zeros(N_AXES)
            error = seen[-1] - _five(current_state, "current state")
            rate, bend = rate - _five(velocity, "velocity"), bend - _five(acceleration, "acceleration")
            self._loop.sense(self._row(error), self._row(rate), self._row(bend))
        self._targets.append(target)
        self._loop.traces = self.memory.traces
        return self._loop.command(self._row(target), self.delay)[0].numpy(force=True)

    @property
    @torch.no_grad()
    def parts(self) -> dict[str, np.ndarray]:
        """What each function contributed to the correction of this step, [5] each; they add up to it.

        Keys are "memory" and those of FUNCTIONS. Raises InputError before the first step of a trial.
        """
        self._must_be_under_way()
        if not self._targets:
            raise InputError("no step of this trial was corrected yet; call compute_correction first")
        circuit = self.network.circuit
        to_axes = circuit.axons_to_nuclei() @ circuit.nuclei_to_axes() * self.network.motor_gain
        found = {"memory": self._loop.remembered[0].numpy(force=True)}
        for number, function in enumerate(FUNCTIONS):
            cells = self._loop.purkinje[0] * (circuit.purkinje_function == number)
            found[function] = -(cells @ to_axes).numpy(force=True)
        return found

    @property
    def predicted_error(self) -> np.ndarray:
        """Error expected at this step if nobody acts, [5]: as remembered and as in past trials, and what is extrapolated."""
        parts = self.parts
        return parts["memory"] + parts["trial"] + parts["prediction"]

    @property
    def variance_reduction(self) -> np.ndarray:
        """What of the correction takes small tremor away, [5]."""
        return self.parts["variance"]

    def end_trial(self) -> None:
        """Keep the trial's mean error in mind for trial-to-trial correction."""
        self._must_be_under_way()
        with torch.no_grad():
            self._loop.settle()

    def experience(self, context: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any], np.ndarray]:
        """What `UniversalMemory.store` takes after a trial: targets, the context, uncorrected errors, [seen, 5] each.

        Raises InputError for a trial in which nothing was sensed.
        """
        if len(self._targets) <= self.delay:
            raise InputError(
                f"nothing was sensed in {len(self._targets)} steps with a delay of {self.delay}; make the trial longer"
            )
        errors, _ = self._loop.experience()
        return np.array(self._targets[: errors.shape[1]]), context, errors[0].numpy(force=True)

    def _number(self, context: dict[str, Any]) -> int:
        return context_number(context, self.network.config.contexts)

    def _must_be_under_way(self) -> None:
        if self._context is None:
            raise InputError("no trial is under way; call begin_trial first")

    def _row(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)[None]


def _five(values: np.ndarray, name: str) -> np.ndarray:
    found = np.asarray(values, float)
    if found.shape != (N_AXES,) or not np.isfinite(found).all():
        raise InputError(f"the {name} must be {N_AXES} finite numbers, one for each of {', '.join(AXES)}")
    return found
