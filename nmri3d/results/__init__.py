"""What a measurement returns: values in physical units, aligned to a component table, and where they came from.

Convention. NaN means "not measured or not defined here". Nothing in a result is normalised, clamped or rounded; display
ranges live in `nmri3d.scene`. Each result is one `.npz` file when it is saved (arrays plus one JSON text, never pickle).

Left out: torch tensors and everything that draws.
"""

from nmri3d.results.comparison import Comparison, Prediction
from nmri3d.results.heatmap import Heatmap
from nmri3d.results.inspection import (
    HEAD_KINDS,
    KIND_THRESHOLD,
    Example,
    GenerationStep,
    HeadKinds,
    LensTable,
    OwnEffect,
    TopNeuron,
    Writing,
)
from nmri3d.results.provenance import Provenance
from nmri3d.results.scan import MODES, Scan, open_scan
from nmri3d.results.sweep import Sweep
from nmri3d.results.tracts import SLOTS, Tracts

__all__ = [
    "HEAD_KINDS",
    "KIND_THRESHOLD",
    "MODES",
    "SLOTS",
    "Comparison",
    "Example",
    "GenerationStep",
    "HeadKinds",
    "Heatmap",
    "LensTable",
    "OwnEffect",
    "Prediction",
    "Provenance",
    "Scan",
    "Sweep",
    "TopNeuron",
    "Tracts",
    "Writing",
    "open_scan",
]
