"""The loop of the cerebellum phantom: what a batch of machines carries from step to step and from trial to trial.

At a step: `sense` takes the tracking error that arrives (none in the first `delay` steps of a trial), `command` gives the
correction of the step. `Cerebellum.loop` closes the loop with a simulated plant, `engine` with any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nmri3d.phantoms.cerebellum.circuit import N_AXES, N_FUNCTIONS, TRIAL, Sensed

if TYPE_CHECKING:
    from nmri3d.phantoms.cerebellum.model import Cerebellum

NOWHERE = -1
"""The context before the first trial."""


class Loop:
    """A batch of machines under way: what the network carries from step to step and from trial to trial."""

    def __init__(self, network: Cerebellum, batch: int, device: torch.device) -> None:
        self._network = network
        self.traces = network.hippocampus.empty(batch, device)
        self.state = network.circuit.begin(batch, device)
        self._synapses = network.place_cells.synapses(network.grid_engine)
        self._to_nuclei, self._to_axes = network.circuit.axons_to_nuclei(), network.circuit.nuclei_to_axes()
        trial = (network.circuit.purkinje_function == TRIAL)[:, None]
        self._trial_to_axes = -(self._to_nuclei * trial) @ self._to_axes * network.motor_gain
        self._none = torch.zeros(batch, N_AXES, device=device)
        self._context = torch.full((batch,), NOWHERE, device=device)

    def begin_trial(self, context: torch.Tensor) -> None:
        """At rest at home, in a context [batch]."""
        self._known = (context == self._context)[:, None].float()
        self._context = context
        self._network.circuit.begin_trial(self.state)
        self._places: list[torch.Tensor] = []
        self._commands: list[torch.Tensor] = []
        self._expected: list[torch.Tensor] = []
        self._sensed: list[Sensed] = []

    def sense(
        self, error: torch.Tensor, rate: torch.Tensor | None = None, acceleration: torch.Tensor | None = None
    ) -> None:
        """Take in the tracking error [batch, 5] of the first step of this trial whose error was not sensed yet.

        rate and acceleration are those of the tracking error, a step and a step squared; by default differences.
        """
        seen = len(self._sensed)
        own = [self._commands[at] - self._expected[at] for at in range(max(0, seen - 2), seen + 1)]
        deviation_rate = deviation_acceleration = self._none
        if seen > 0:
            rate = error - self._sensed[-1].error if rate is None else rate
            deviation_rate = rate + own[-1] - own[-2]
        if seen > 1:
            before = self._sensed[-1].error - self._sensed[-2].error
            acceleration = error - self._sensed[-1].error - before if acceleration is None else acceleration
            deviation_acceleration = acceleration + own[-1] - 2 * own[-2] + own[-3]
        self._sensed.append(
            Sensed(error, error + self._commands[seen], error + own[-1], deviation_rate, deviation_acceleration)
        )

    def command(self, target: torch.Tensor, delay: int) -> torch.Tensor:
        """The correction [batch, 5] of this step, for a planned position [batch, 5]."""
        network, circuit = self._network, self._network.circuit
        grid = network.grid_engine.hook_rate(network.grid_engine(target))
        place = network.place_cells.hook_rate(network.place_cells(network.grid_engine, grid, self._synapses))
        recalled = network.hippocampus.recall(self.traces, place, self._context)
        remembered = network.hippocampus.hook_bias(recalled)

        sensed = self._sensed[-1] if self._sensed else None
        climbing = circuit.hook_climbing(self._none if sensed is None else sensed.error)
        if sensed is not None:
            circuit.learn(self.state, climbing, self.state.granules[len(self._sensed) - 1])
        fibers = circuit.fibers(self.state, sensed, remembered, self._known, delay)
        granule = circuit.hook_granule(circuit.expand(circuit.hook_mossy(fibers)))
        granule = granule.unflatten(1, (N_FUNCTIONS, -1))
        purkinje = circuit.hook_purkinje(circuit.inhibit(granule, self.state.learned))
        nucleus = circuit.hook_nucleus(-(purkinje @ self._to_nuclei))
        correction = network.hook_motor(remembered + nucleus @ self._to_axes * network.motor_gain)

        self.remembered, self.purkinje = remembered, purkinje
        self._places.append(place)
        self._commands.append(correction)
        self._expected.append(remembered + purkinje @ self._trial_to_axes)
        self.state.granules.append(granule)
        return correction

    def experience(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What was sensed in this trial: uncorrected errors [batch, seen, 5] and place cells' rates [batch, seen, places]."""
        errors = torch.stack([sensed.uncorrected for sensed in self._sensed], 1)
        return errors, torch.stack(self._places[: len(self._sensed)], 1)

    def end_trial(self) -> None:
        """The hippocampus stores what was sensed, and consolidates; the cerebellum keeps the trial's mean in mind."""
        if self._sensed:
            hippocampus = self._network.hippocampus
            errors, places = self.experience()
            stored = hippocampus.store(self.traces, places, errors, self._context)
            self.traces = hippocampus.consolidate(stored, self._context)
            self.settle()

    def settle(self) -> None:
        """The cerebellum's own end of a trial; the memory is left as it is."""
        if self._sensed:
            errors = torch.stack([sensed.uncorrected for sensed in self._sensed], 1)
            self._network.circuit.end_trial(self.state, errors.mean(1), self._known)
