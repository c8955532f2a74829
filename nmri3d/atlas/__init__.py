"""The cortex, and the atlas that gives every component of a model a parcel of it.

    cortex(resolution)           the two hemispheres of fsaverage
    Atlas.build(model, layout)   parcels: faces, areas, borders, quality
    node_layout(name, ...)       a ball a component: stack, radial, network
    label_volume(atlas)          voxels of the same parcels

Nothing heavy is imported until one of these names is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "surfaces": ["RESOLUTIONS", "SURFACES", "Cortex", "Hemisphere", "cortex"],
        "parcels": ["AREAS", "Atlas"],
        "layout": ["LAYOUTS"],
        "figures": ["Figure", "describe"],
        "moran": ["Moran", "spatial_clustering"],
        "nodes": ["NODE_LAYOUTS", "Nodes", "node_layout"],
        "volume": ["LabelVolume", "label_volume"],
    },
)
