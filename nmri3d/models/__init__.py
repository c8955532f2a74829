"""Models: from a name to a network that scans can run. Importing this package imports neither torch nor transformers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "registry": ["CatalogEntry", "catalog"],
        "loading": ["Checkpoint", "load", "load_checkpoint"],
        "budget": ["memory"],
    },
)
