"""Atlases that several files look at; each is built once a run and never written to."""

from __future__ import annotations

import pytest

from nmri3d.atlas import Atlas
from tests.atlas.tables import Shape, table, uneven

CASES = {
    "smollm2 30x9": (table(30, 9), {}),
    "gpt2 12x12 with biases": (table(12, 12, bias=True), {"area": "equal"}),
    "two layers": (table(2, 2), {}),
    "one layer, many heads": (table(1, 40), {}),
    "no MLPs": (table(4, 8, mlp=False), {}),
    "no heads": (table(10, 0), {}),
    "no embedding": (table(6, 4, embed=False), {}),
    "sizes differ 20-fold": (uneven(table(12, 8), 20.0), {}),
    "sizes differ 1000-fold": (uneven(table(8, 6), 1000.0, seed=1), {}),
    "finer mesh": (table(6, 4), {"resolution": "fsaverage6"}),
}


@pytest.fixture(scope="session")
def atlases():
    """Name -> atlas, built when first asked for."""
    built: dict[str, Atlas] = {}

    def get(name: str) -> Atlas:
        if name not in built:
            components, options = CASES[name]
            built[name] = Atlas.build(Shape(components), cache=False, **options)
        return built[name]

    return get


@pytest.fixture(params=CASES)
def any_atlas(request, atlases):
    """Every case in turn."""
    return atlases(request.param)


@pytest.fixture
def default_atlas(atlases):
    """The shape of the default model."""
    return atlases("smollm2 30x9")
