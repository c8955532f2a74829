"""Every model that a menu can offer: the embedded one, the phantoms whose weights are here, and the hub's.

Answers at once, as `nmri3d.models.catalog`, and loads nothing.

Left out: phantoms without trained weights, which cannot be opened.
"""

from __future__ import annotations

from nmri3d.models.registry import CatalogEntry, catalog

PHANTOM = "phantom"
"""The family of the phantoms."""


def offered_models() -> list[CatalogEntry]:
    """The embedded default, the phantoms, then what `nmri3d.models.catalog` lists else."""
    first, *others = catalog()
    return [first, *_phantoms(), *others]


def _phantoms() -> list[CatalogEntry]:
    from nmri3d.phantoms.registry import PHANTOMS, shipped_names

    return [
        CatalogEntry(
            f"phantom:{name}",
            PHANTOMS[name].title,
            PHANTOM,
            n_params=None,
            download_bytes=0,
            cached=True,
            note=PHANTOMS[name].about,
        )
        for name in shipped_names()
    ]
