"""The cerebellum phantom: grid engine, hippocampal memory and cerebellar circuit in closed loop with a simulated machine.

At every control step t (see `plant` for the machine):

    grid, place   where the planned path is now
    memory        the error to expect here, recalled from earlier trials                       (memory-based adaptation)
    climbing      the tracking error of step t - delay; it trains the Purkinje cells
    mossy ... nuclei   what the circuit makes of that error: predicted ahead by its filtered rates  (prediction),
                  of past trials' mean error less the memory                                   (trial-to-trial correction),
                  and of the low-passed error                                                  (variance reduction)
    motor         correction = memory + nuclei, by axis; the remembered bias is applied once
    output        tracking error target - position, after the correction

After each trial the hippocampus stores what it sensed and consolidates. All passes of a batch share delay and length.

Left out: an additive residual stream; the units' activities are what is scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.models.backend import Stimulus
from nmri3d.phantoms.cerebellum.circuit import N_AXES, N_FUNCTIONS, TRIAL, CerebellarCircuit
from nmri3d.phantoms.cerebellum.config import AXES, FUNCTIONS, UNITS, Config
from nmri3d.phantoms.cerebellum.grid import Grid5DEngine, PlaceCells
from nmri3d.phantoms.cerebellum.loop import Loop
from nmri3d.phantoms.cerebellum.memory import Hippocampus
from nmri3d.phantoms.cerebellum.plant import realize
from nmri3d.phantoms.cerebellum.reference import PROBE, reference_texts
from nmri3d.phantoms.cerebellum.scenario import NAMED, read_scenario
from nmri3d.phantoms.phantom import Identity, Part, Phantom, Structure, Truth

NEAREST = 10
"""Place cells that the answer key names for its place."""
DIRECTED = 0.9
"""Share of the Purkinje cells that must have a direction for the answer key to say that they have one."""

KINDS: dict[str, tuple[str, Structure]] = {
    "grid": ("grid_engine.hook_rate", "cortex"),
    "place": ("place_cells.hook_rate", "hippocampus"),
    "memory": ("hippocampus.hook_bias", "hippocampus"),
    "climbing": ("circuit.hook_climbing", "cerebellum"),
    "mossy": ("circuit.hook_mossy", "cerebellum"),
    "granule": ("circuit.hook_granule", "cerebellum"),
    "purkinje": ("circuit.hook_purkinje", "cerebellum"),
    "nucleus": ("circuit.hook_nucleus", "cerebellum"),
    "motor": ("hook_motor", "cortex"),
}
"""Kinds of units in the order in which they act: hook point and structure; `layer` is the place in this order."""

RATES = ("grid", "place", "granule")
"""Kinds whose activity is a firing rate; that of the others is an error, a correction, or a deviation from a tonic rate."""


class Cerebellum(Phantom):
    """The network; `loop` runs it on any passes, `forward` is what the scanner calls."""

    identity: ClassVar[Identity] = Identity(
        name="cerebellum",
        title="Cerebellum",
        step_axis="control step",
        outputs="signal",
        metric="tracking error of an axis, in mm or degrees",
        examples=tuple(NAMED.values()),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Config()
        self.grid_engine = Grid5DEngine(self.config)
        self.place_cells = PlaceCells(self.config)
        self.hippocampus = Hippocampus(self.config)
        self.circuit = CerebellarCircuit(self.config)
        self.motor_gain = nn.Parameter(torch.ones(N_AXES))
        self.hook_motor = HookPoint()
        self.setup()

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Tracking error [batch, steps, 5] of passes as `inputs` gives them."""
        return self.loop(**inputs).flatten(1, 2)

    def loop(
        self,
        target: torch.Tensor,
        disturbance: torch.Tensor,
        sensor: torch.Tensor,
        context: torch.Tensor,
        delay: torch.Tensor,
    ) -> torch.Tensor:
        """Tracking error [batch, trials, steps, 5].

        target, disturbance, sensor [batch, trials, steps, 5]; context int64 [batch, trials]; delay int64 [batch], all equal.
        """
        batch, trials = context.shape
        lag = int(delay[0])
        run = Loop(self, batch, target.device)
        errors: list[torch.Tensor] = []
        for trial in range(trials):
            run.begin_trial(context[:, trial])
            for step in range(target.shape[2]):
                if step >= lag:
                    run.sense(errors[-lag] - sensor[:, trial, step - lag])
                correction = run.command(target[:, trial, step], lag)
                errors.append(-(correction + disturbance[:, trial, step]))
            run.end_trial()
        return torch.stack(errors, 1).unflatten(1, (trials, -1))

    @property
    def parts(self) -> Sequence[Part]:
        """One unit a part, all of them active at every step."""
        config, parts = self.config, []
        count = {
            "grid": len(self.grid_engine.phase),
            "place": config.places,
            "granule": N_FUNCTIONS * config.granules,
            "mossy": self.circuit.mossy_gain.numel(),
            "purkinje": len(self.circuit.purkinje_axis),
            "nucleus": len(self.circuit.nucleus_axis),
        }
        for layer, (kind, (site, structure)) in enumerate(KINDS.items()):
            for index in range(count.get(kind, N_AXES)):
                rate = kind in RATES
                parts.append(Part(kind, layer, index, site, index, scalar=True, rate=rate, structure=structure))
        return parts

    @property
    def output_names(self) -> Sequence[str]:
        return [f"error {axis} ({unit})" for axis, unit in zip(AXES, UNITS, strict=True)]

    def weights(self, part: Part) -> Mapping[str, torch.Tensor]:
        at, one = part.index, slice(part.index, part.index + 1)
        memory, circuit = self.hippocampus, self.circuit
        return {
            "grid": lambda: {"phase": self.grid_engine.phase[one]},
            "place": lambda: {"center": self.place_cells.share[at], "sharpness": self.place_cells.sharpness[one]},
            "memory": lambda: {
                "store_rate": memory.store_rate[one],
                "consolidation_rate": memory.consolidation_rate[one],
                "share_consolidated": memory.share_consolidated[one],
            },
            "climbing": lambda: {"learning_rate": circuit.learning_rate[at]},
            "mossy": lambda: {
                "gain": circuit.mossy_gain.view(-1)[one],
                "cutoff": circuit.mossy_cutoff.view(-1)[one],
            },
            "granule": lambda: {"dendrite": circuit.dendrite[at], "threshold": circuit.threshold[one]},
            "purkinje": lambda: {"parallel": circuit.parallel[at], "axon": circuit.axon[at]},
            "nucleus": lambda: {"weight": circuit.nucleus_weight[one]},
            "motor": lambda: {"gain": self.motor_gain[one]},
        }[part.kind]()

    def stimulus(self, text: str) -> Stimulus:
        """Steps are labeled trial:step, both from 1. Raises InputError for a text that is no scenario."""
        scenario = read_scenario(text, self.config)
        labels = tuple(f"{t + 1}:{s + 1}" for t in range(scenario.trials) for s in range(scenario.steps))
        return Stimulus(text, np.arange(len(labels)), labels, np.zeros(len(labels), bool))

    def inputs(self, stimulus: Stimulus) -> dict[str, torch.Tensor]:
        passes = realize(read_scenario(stimulus.text, self.config), self.config)
        return {
            "target": torch.from_numpy(passes.target)[None],
            "disturbance": torch.from_numpy(passes.disturbance)[None],
            "sensor": torch.from_numpy(passes.sensor)[None],
            "context": torch.from_numpy(passes.context)[None],
            "delay": torch.tensor([passes.delay]),
        }

    def reference(self) -> Sequence[str]:
        return reference_texts(self.config)

    def answer_key(self) -> Sequence[Truth]:
        return answers(self)


def answers(network: Cerebellum) -> list[Truth]:
    """The wiring that was drawn, the place cells next to the probe, and the directions that training gave."""
    ids = {kind: f"{kind}.{layer}.{{}}" for layer, kind in enumerate(KINDS)}

    def named(kind: str, chosen: torch.Tensor) -> tuple[str, ...]:
        return tuple(ids[kind].format(index) for index in torch.nonzero(chosen).flatten().tolist())

    circuit, found = network.circuit, []
    for axis, name in enumerate(AXES):
        cells = named("purkinje", circuit.purkinje_axis == axis) + named("nucleus", circuit.nucleus_axis == axis)
        found.append(
            Truth(f"cells of {name}", f"Purkinje and nucleus cells that correct {name} alone", cells, "construction")
        )
    for function, name in enumerate(FUNCTIONS):
        cells = named("purkinje", circuit.purkinje_function == function)
        found.append(Truth(f"cells of {name}", f"Purkinje cells of the function {name}", cells, "construction"))
    far = (network.place_cells.centers - torch.tensor(PROBE, device=network.motor_gain.device)).norm(dim=1)
    near = torch.zeros(len(far), dtype=torch.bool).index_fill(0, far.argsort()[:NEAREST].cpu(), True)
    words = f"the {NEAREST} place cells whose centers are nearest to {', '.join(f'{at:g}' for at in PROBE)}"
    found.append(Truth("place cells of the probe", words, named("place", near), "construction"))
    directed, within = _directed(network), circuit.purkinje_function != TRIAL
    if directed[within].float().mean() >= DIRECTED:
        words = (
            "Purkinje cells of prediction and variance that, when the first push of a trial is sensed, rise where it pushes "
            "their axis up and fall where it pushes it down"
        )
        found.append(Truth("directed cells", words, named("purkinje", directed), "training"))
    return found


@torch.no_grad()
def _directed(network: Cerebellum) -> torch.Tensor:
    """Purkinje cells that rise at a push up on all axes and fall at one down, bool; those of the trial function are silent.

    At the step at which it is sensed, before climbing fibers have taught anything: the directions of the weights themselves.
    """
    device, delay = network.motor_gain.device, 2
    push = torch.tensor([[1.0], [-1.0]], device=device).expand(-1, N_AXES)
    run, home = Loop(network, 2, device), torch.zeros_like(push)
    run.begin_trial(torch.zeros(2, dtype=torch.int64, device=device))
    for _ in range(delay):
        run.command(home, delay)
    run.sense(-push)
    run.command(home, delay)
    up, down = run.purkinje
    return (up > 0) & (down < 0)
