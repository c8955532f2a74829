"""The cortex, and the atlas that gives every component of a model a parcel of it.

    cortex(resolution)           the two hemispheres of fsaverage
    Atlas.build(model, layout)   parcels: faces, areas, borders, quality

Nothing heavy is imported until one of these names is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "surfaces": ["RESOLUTIONS", "SURFACES", "Cortex", "Hemisphere", "cortex"],
        "parcels": ["AREAS", "Atlas"],
        "layout": ["LAYOUTS"],
    },
)
