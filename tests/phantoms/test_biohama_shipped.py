"""The shipped BioHama: its figures and its answer key, measured anew, and what its scans find."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nmri3d.phantoms.biohama import calibration
from nmri3d.phantoms.biohama.calibration import checks
from nmri3d.phantoms.biohama.fitting import figures_of
from nmri3d.phantoms.biohama.model import BioHama
from nmri3d.phantoms.biohama.truth import NEEDED, RULES, measure
from nmri3d.phantoms.calibration import SIGNIFICANT, judge
from nmri3d.phantoms.registry import folder_of, load_phantom, shipped


@pytest.fixture(scope="module")
def network() -> BioHama:
    return shipped("biohama")


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads((folder_of("biohama") / "metrics.json").read_text())["figures"]


def test_the_figures_are_those_of_the_weights(network, figures):
    found = figures_of(network, 100, ("in-dist", "longer", "combinations"))
    for split, row in found.items():
        for family, value in row.items():
            assert value == pytest.approx(figures["accuracy"][split][family], abs=0.15 if family != "mean" else 0.09)


def test_the_figures_reach_what_the_issue_asks(figures):
    accuracy = figures["accuracy"]
    assert accuracy["training"]["mean"] > 0.95
    assert accuracy["in-dist"]["mean"] > 0.90
    assert accuracy["OOD"]["mean"] > 0.50


def test_the_answer_key_holds_on_other_programs(network):
    lesions, own = measure(network, n=80, seed=5)
    ids = {f"module.4.{i}": i for i in range(network.config.modules)}
    truths = network.answer_key()
    assert sum(truth.name.startswith("module of") for truth in truths) >= 7
    for truth in truths:
        modules = [ids[name] for name in truth.components if name in ids]
        rule = RULES.index(truth.name.split(" ", 2 if truth.name.startswith("module of") else 3)[-1])
        if truth.name.startswith("module of"):
            assert own[rule].argmax() == modules[0]
        else:
            others = np.setdiff1d(np.arange(network.config.modules), modules)
            assert lesions[rule, modules].min() > NEEDED - 0.15
            assert lesions[rule, others].max(initial=0) < NEEDED + 0.15


def test_scans_find_what_is_planted(monkeypatch):
    monkeypatch.setattr(calibration, "PROGRAMS", 2)
    backend = load_phantom("biohama", device="cpu")
    for check in checks():
        finding = judge(check, backend)
        assert finding.p < SIGNIFICANT, (check.name, finding)
        assert finding.effect >= check.least, (check.name, finding)
