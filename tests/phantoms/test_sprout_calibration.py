"""The truths planted in SPROUT: scans find each, and find none in a network with random weights."""

from __future__ import annotations

import pytest
import torch

from nmri3d.phantoms.backend import PhantomBackend
from nmri3d.phantoms.calibration import SIGNIFICANT, judge
from nmri3d.phantoms.registry import shipped
from nmri3d.phantoms.sprout.calibration import checks
from nmri3d.phantoms.sprout.model import Sprout

CHECKS = {check.name: check for check in checks()}


@pytest.fixture(scope="module")
def trained() -> PhantomBackend:
    return PhantomBackend(shipped("sprout"))


@pytest.mark.parametrize("name", CHECKS)
def test_every_planted_truth_is_found(name: str, trained: PhantomBackend) -> None:
    finding = judge(CHECKS[name], trained)
    assert finding.p < SIGNIFICANT
    assert finding.effect >= CHECKS[name].least, finding


@pytest.mark.parametrize("name", ["plural units light", "disagreement is unusual"])
def test_random_weights_show_none_of_it(name: str) -> None:
    torch.manual_seed(5)
    finding = judge(CHECKS[name], PhantomBackend(Sprout().eval().requires_grad_(False)))
    assert finding.effect < CHECKS[name].least
    assert abs(finding.z) < 4
