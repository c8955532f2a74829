"""Phantoms: networks with known truth, trained small and shipped, that calibrate the scanner.

Convention. A phantom's name is as after "phantom:"; its package holds `model.py` (configuration, module, answer key), its
task with ground truth, and `training.py` (a `Recipe`). Scans, perturbations, brain and exports know nothing of phantoms.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "phantom": ["Identity", "Part", "Phantom", "Truth"],
        "registry": ["PHANTOMS", "load_phantom", "recipe_of"],
    },
)
