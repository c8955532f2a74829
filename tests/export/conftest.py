"""The small scene and scans that fit it."""

from collections.abc import Iterator

import numpy as np
import pytest

from nmri3d.results import Provenance, Scan
from nmri3d.scene.brain import BrainScene
from tests.scene.small_atlas import small_atlas, small_table
from tests.scene.small_tracts import small_tracts


@pytest.fixture(scope="session")
def atlas():
    return small_atlas(3)


@pytest.fixture(scope="session")
def scene(atlas) -> Iterator[BrainScene]:
    with BrainScene(atlas) as scene:
        yield scene


def make_scan(tokens: tuple[str, ...] = ("The", " capital", " of"), **changes) -> Scan:
    values = np.random.default_rng(0).uniform(1, 9, size=(max(1, len(tokens)), 11)).astype(np.float32)
    provenance = Provenance(
        "tiny-model", "0123456789abcdef" * 4, prompt="The capital of", created="2026-01-02T03:04:05+00:00"
    )
    fields = {"mode": "fMRI", "values": values, "units": "L2 norm", "components": small_table()}
    fields |= {"tokens": tokens, "provenance": provenance}
    return Scan(**(fields | changes))


@pytest.fixture
def scan() -> Scan:
    return make_scan()


@pytest.fixture
def dti() -> Scan:
    values = np.linspace(-2, 2, 11, dtype=np.float32)[None]
    details = {"prompt_tokens": np.array(["The", " cat"]), "position": np.array(1)}
    return make_scan((), mode="DTI", values=values, signed=True, tracts=small_tracts(), details=details, units="logits")
