"""nmri3d: Neural MRI in 3D. Five scans of a language model, painted on a cortical surface.

    import nmri3d

    model = nmri3d.load("smollm2-135m")
    scan = nmri3d.scan(model, "fMRI", "The capital of France is")
    nmri3d.Brain(model).show(scan, token=4).screenshot("brain.png")

Importing this package imports neither torch nor vtk: each name is loaded when it is first used.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

try:
    __version__ = version("nmri3d")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__getattr__, __dir__, _public = lazy_loader.attach(
    __name__,
    submod_attrs={
        "atlas": ["Atlas"],
        "client": ["connect"],
        "components": ["ComponentTable"],
        "errors": ["Nmri3dError"],
        "jupyter": ["Brain", "open"],
        "linked": ["side_by_side"],
        "models": ["load"],
        "perturbation": ["Edit", "ablate_all", "perturb", "trace", "verify_edge"],
        "results": ["Comparison", "Heatmap", "Provenance", "Scan", "Sweep", "Tracts", "open_scan"],
        "scans": ["scan", "scan_neurons"],
    },
)
__all__ = [*_public, "__version__"]
