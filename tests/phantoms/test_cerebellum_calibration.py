"""The checks of the cerebellum phantom: found by chance alone in a network with other weights."""

import numpy as np
import pytest
import torch

from nmri3d.phantoms.backend import PhantomBackend
from nmri3d.phantoms.calibration import SIGNIFICANT, judge
from nmri3d.phantoms.cerebellum.calibration import LEARNED, checks, checks_for
from nmri3d.phantoms.cerebellum.model import Cerebellum
from nmri3d.phantoms.registry import shipped


@pytest.fixture(scope="module")
def null():
    torch.manual_seed(17)
    return PhantomBackend(Cerebellum().eval().requires_grad_(False))


def test_another_wiring_does_not_have_the_same_answers(null):
    """FLAIR is left out: a template of its own takes long. Its truth follows from the same wiring."""
    effects = [judge(check, null).effect for check in checks() if check.scan != "FLAIR"]
    assert max(effects) < 0.8
    assert np.mean(effects) == pytest.approx(0.5, abs=0.15)


def test_only_the_learned_truth_is_missing_where_nothing_was_trained(null):
    """Told its own wiring, an untrained network passes what is wired; what training made it does not have, nor says it has."""
    assert "directed cells" in {truth.name for truth in shipped("cerebellum").answer_key()}
    own = null.phantom.answer_key()
    assert "directed cells" not in {truth.name for truth in own}
    found = {check.name: judge(check, null) for check in checks_for(own) if check.scan != "FLAIR"}
    learned = found.pop(LEARNED)
    assert 0.3 < learned.effect < 0.7
    assert learned.p > SIGNIFICANT
    assert all(finding.p < SIGNIFICANT for finding in found.values())


def test_checks_have_names_of_their_own_and_use_every_kind_of_scan_that_can_fail():
    assert len({check.name for check in checks()}) == len(checks())
    assert {check.scan for check in checks()} >= {"difference", "fMRI", "sweep", "DTI", "FLAIR"}
