"""Settings of the cerebellum phantom: what is fixed before training.

Convention. Positions are [x, y, z, theta_a, theta_b], millimeters and degrees. Errors are target - current: a correction
equal to the error that is to come cancels it. Time is counted in control steps.
"""

from __future__ import annotations

from dataclasses import dataclass

AXES = ("x", "y", "z", "theta_a", "theta_b")
UNITS = ("mm", "mm", "mm", "degrees", "degrees")
FUNCTIONS = ("prediction", "trial", "variance")
"""What the cerebellum does by itself; the fourth function, memory-based adaptation, is the hippocampus' part of a command."""

SOURCES = {
    "prediction": ("error", "error by delay", "rate", "acceleration"),
    "trial": ("last trial", "past trials"),
    "variance": ("smoothed error", "steady error"),
}
"""What the mossy fibers of each function carry, one fiber an axis."""


@dataclass(frozen=True)
class Config:
    """Defaults are the shipped network.

    periods             of the grid modules, in mm or degrees
    phases              grid cells a module and axis
    places              place cells
    contexts            contexts that the memory keeps apart
    granules            granule cells a function
    claws               mossy fibers that a granule cell reads
    purkinje_copies     Purkinje cells an axis and function
    nucleus_copies      cells of the deep nuclei an axis
    reach               half width of the workspace, by axis
    memory_rate         largest share by which the hippocampal memory moves in one trial
    max_delay           longest loop delay, in steps
    max_steps           longest stimulus, in steps
    sensor_share        standard deviation of the sensor's white noise, as a share of that of the colored disturbance
    push_steps          how long a push lasts
    """

    periods: tuple[float, ...] = (100.0, 150.0, 220.0)
    phases: int = 6
    places: int = 128
    contexts: int = 2
    granules: int = 128
    claws: int = 4
    purkinje_copies: int = 4
    nucleus_copies: int = 3
    reach: tuple[float, ...] = (50.0, 50.0, 50.0, 45.0, 45.0)
    memory_rate: float = 0.3
    max_delay: int = 3
    max_steps: int = 64
    sensor_share: float = 0.1
    push_steps: int = 6
