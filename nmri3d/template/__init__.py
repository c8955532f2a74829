"""The template: what a model does on ordinary text, so that one prompt can be told from the usual.

`template_of(model)` gives it; scans, perturbations and tracing take their baselines from it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "access": ["available", "template_of"],
        "build": ["build_template"],
        "examples": ["moving_passages"],
        "functional": ["functional_features"],
        "reference": ["passages"],
        "sources": ["SOURCES", "layout_features"],
        "template": ["LensReference", "Template", "stratum_of"],
    },
)
