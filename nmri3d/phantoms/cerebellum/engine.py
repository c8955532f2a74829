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
from nmri3d.phantoms.cerebellum.config import FUNCTIONS
from nmri3d.phantoms.cerebellum.loop import Loop
from nmri3d.phantoms.cerebellum.memory import UniversalMemory
from nmri3d.phantoms.cerebellum.model import Cerebellum


class CerebellumEngine:
    """See the module's first lines; `delay` is the machine's loop delay in steps."""

    def __init__(self, memory: UniversalMemory, network: Cerebellum, *, delay: int = 2) -> None:
        if not 1 <= delay <= network.config.max_delay:
            raise InputError(
                f"the loop delay is {delay} steps, and the network was trained for 1 to {network.config.max_delay}"
            )
        self.memory, self.network, self.delay = memory, network, delay
        with torch.no_grad():
            self._loop = Loop(network, 1, torch.device("cpu"))
        self._targets: list[np.ndarray] = []

    def begin_trial(self, context: dict[str, Any]) -> None:
        """At rest at home; `context["context_id"]` (default 0) chooses what is remembered."""
        self._targets = []
        self._loop.begin_trial(torch.tensor([int(context.get("context_id", 0))]))

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
        one step later on, acceleration from two. Raises InputError where the state is None later or given earlier.
        """
        step = len(self._targets)
        if (current_state is None) != (step < self.delay):
            raise InputError(
                f"at step {step} of a trial with a delay of {self.delay} the current state must be "
                + ("None, nothing is sensed yet" if step < self.delay else "what was sensed, not None")
            )
        self._targets.append(np.asarray(target_state, float))
        if current_state is not None:
            seen = self._targets[max(0, step - self.delay - 2) : step - self.delay + 1]
            rate = seen[-1] - seen[-2] if len(seen) > 1 else 0.0
            bend = seen[-1] - 2 * seen[-2] + seen[-3] if len(seen) > 2 else 0.0
            self._loop.sense(_row(seen[-1] - current_state), _row(rate - velocity), _row(bend - acceleration))
        self._loop.traces = self.memory.traces
        return self._loop.command(_row(target_state), self.delay)[0].numpy()

    @property
    @torch.no_grad()
    def parts(self) -> dict[str, np.ndarray]:
        """What each function contributed to the last correction, [5] each, "memory" among them; they add up to it."""
        circuit = self.network.circuit
        to_axes = circuit.axons_to_nuclei() @ circuit.nuclei_to_axes() * self.network.motor_gain
        found = {"memory": self._loop.remembered[0].numpy()}
        for number, function in enumerate(FUNCTIONS):
            cells = self._loop.purkinje[0] * (circuit.purkinje_function == number)
            found[function] = -(cells @ to_axes).numpy()
        return found

    def end_trial(self) -> None:
        """Keep the trial's mean error in mind for trial-to-trial correction."""
        with torch.no_grad():
            self._loop.settle()

    def experience(self, context: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any], np.ndarray]:
        """What `UniversalMemory.store` takes after a trial: targets, the context, uncorrected errors, [seen, 5] each."""
        errors, _ = self._loop.experience()
        return np.array(self._targets[: errors.shape[1]]), context, errors[0].numpy()


def _row(values: np.ndarray | float) -> torch.Tensor:
    return torch.as_tensor(np.broadcast_to(values, N_AXES).astype(np.float32))[None]
