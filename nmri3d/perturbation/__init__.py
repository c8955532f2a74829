"""Interventions: edits of a pass and what they change, exact sweeps over components, causal tracing, path patching."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compare": ["CleanRun", "clean_run", "perturb"],
        "edits": ["Edit"],
        "sweep": ["ablate_all"],
        "paths": ["verify_edge"],
        "tracing": ["trace"],
    },
)
