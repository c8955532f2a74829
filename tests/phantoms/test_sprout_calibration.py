"""The truths planted in SPROUT: scans find none of them in a network with random weights."""

from __future__ import annotations

import pytest
import torch

from nmri3d.phantoms.backend import PhantomBackend
from nmri3d.phantoms.calibration import judge
from nmri3d.phantoms.registry import shipped
from nmri3d.phantoms.sprout.calibration import checks
from nmri3d.phantoms.sprout.model import Sprout

CHECKS = {check.name: check for check in checks()}


@pytest.fixture(scope="module")
def trained() -> PhantomBackend:
    return PhantomBackend(shipped("sprout"))


@pytest.fixture(scope="module")
def untrained() -> PhantomBackend:
    torch.manual_seed(5)
    return PhantomBackend(Sprout().eval().requires_grad_(False))


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.scan != "FLAIR"])
def test_random_weights_show_none_of_it(name: str, untrained: PhantomBackend) -> None:
    finding = judge(CHECKS[name], untrained)
    assert finding.effect < CHECKS[name].least
    assert abs(finding.z) < 4


def test_random_weights_show_disagreement_less(trained: PhantomBackend, untrained: PhantomBackend) -> None:
    """Pairs share their nouns, so the z of random networks scatters by several units; calibration knows how far from 100."""
    [check] = [check for check in CHECKS.values() if check.scan == "FLAIR"]
    found, chance = judge(check, trained), judge(check, untrained)
    assert chance.effect < found.effect - 0.1
    assert chance.z < found.z - 1
