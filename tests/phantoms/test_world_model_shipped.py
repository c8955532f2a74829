"""The world model that is shipped: its figures are its own, reach what was asked, and scans find what is planted."""

import json

import numpy as np
import pytest

from nmri3d.phantoms.backend import open_module
from nmri3d.phantoms.calibration import SIGNIFICANT, judge
from nmri3d.phantoms.registry import folder_of, shipped, shipped_names
from nmri3d.phantoms.world_model import measures
from nmri3d.phantoms.world_model.calibration import checks
from nmri3d.phantoms.world_model.corpus import Hierarchy
from nmri3d.phantoms.world_model.lexicon import LEVELS

if "world-model" not in shipped_names():
    pytest.skip("the world model has no trained weights yet", allow_module_level=True)


@pytest.fixture(scope="module")
def figures():
    return json.loads((folder_of("world-model") / "metrics.json").read_text())["figures"]


@pytest.fixture(scope="module")
def model():
    return shipped("world-model")


@pytest.fixture(scope="module")
def test_text():
    return measures.held_out(Hierarchy())


def test_its_perplexity_is_what_the_trainer_measured(model, figures, test_text):
    logits = measures.traced(model, test_text.text.tokens).logits
    assert measures.perplexity(logits, test_text.text.tokens) == pytest.approx(figures["perplexity"], rel=1e-4)


def test_no_network_knows_more_than_the_ideal_observer(figures, test_text):
    ideal = measures.ideal_perplexity(test_text)
    assert ideal == pytest.approx(figures["ideal"]["perplexity"], rel=1e-6)
    assert ideal < figures["perplexity"] < 1.05 * ideal
    assert figures["perplexity"] <= figures["flat"]["perplexity"]


def test_every_level_names_its_own_variable(figures):
    assert min(figures["probes"]["own"]) >= 0.9
    assert min(figures["probes"]["tokens"]) > 1_000


def test_evidence_grows_twofold_from_level_to_level(figures):
    for network in (figures, figures["ideal"]):
        assert min(network["weight"]["growth_nats"]) >= 2
        assert min(network["weight"]["growth_tokens"]) >= 2


def test_the_answer_key_says_what_was_measured(model, figures):
    names = set()
    shares = np.array(figures["probes"]["accuracy"])
    assert len(model.answer_key()) == len(LEVELS)
    for level, truth in enumerate(model.answer_key()):
        assert f"{100 * shares[level, level]:.1f} %" in truth.statement
        assert f"{100 * np.delete(shares[:, level], level).max():.1f} %" in truth.statement
        assert truth.name.startswith(LEVELS[level])
        names |= set(truth.components)
    backend = open_module("world-model", model, device="cpu")
    assert names == {backend.components.ids[row] for row in backend.components.rows(kind="latent")}


@pytest.mark.parametrize("number", range(len(checks())))
def test_scans_find_what_is_planted(model, number):
    check = checks()[number]
    finding = judge(check, open_module("world-model", model, device="cpu"))
    assert finding.effect >= check.least, finding
    assert finding.p < SIGNIFICANT
