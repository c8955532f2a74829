"""One small scene for all rendering tests of this folder, put back into its first state for each."""

from collections.abc import Iterator

import numpy as np
import pytest

from nmri3d.atlas import Atlas
from nmri3d.scene.brain import BrainScene
from tests.scene.small_atlas import small_atlas


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    return small_atlas()


@pytest.fixture(scope="session")
def shared_scene(atlas) -> Iterator[BrainScene]:
    with BrainScene(atlas) as scene:
        yield scene


@pytest.fixture
def scene(shared_scene) -> BrainScene:
    shared_scene.show_surface("pial")
    shared_scene.view("lateral_left")
    shared_scene.show_tracts(None)
    shared_scene.select(None)
    shared_scene.show_borders(False)
    shared_scene.paint(np.zeros((len(shared_scene.atlas.components), 4), dtype=np.uint8))
    return shared_scene
