"""The world model that is shipped: its figures are its own, and reach what was asked."""

import json

import numpy as np
import pytest

from nmri3d.phantoms.backend import open_module
from nmri3d.phantoms.registry import folder_of, shipped
from nmri3d.phantoms.training import STUDY, Run
from nmri3d.phantoms.world_model import measures, training
from nmri3d.phantoms.world_model.corpus import Hierarchy
from nmri3d.phantoms.world_model.lexicon import LEVELS
from nmri3d.phantoms.world_model.training import RATES, RATES_TRIED, RECIPE, SEEDS


@pytest.fixture(scope="module")
def figures():
    return json.loads((folder_of("world-model") / "metrics.json").read_text())["figures"]


@pytest.fixture(scope="module")
def model():
    return shipped("world-model")


@pytest.fixture(scope="module")
def test_text():
    return measures.held_out(Hierarchy())


def test_its_figures_are_what_the_trainer_measured(model, figures):
    found = training._figures(model)
    assert set(found) == set(figures) - {"flat", "ideal", "untrained"}
    for name, value in found.items():  # another machine rounds otherwise
        assert leaves(value) == pytest.approx(leaves(figures[name]), rel=1e-2, abs=1e-2, nan_ok=True), name


def leaves(value):
    """The numbers in nested lists and mappings, NaN for None."""
    if isinstance(value, dict | list):
        return [leaf for one in (value.values() if isinstance(value, dict) else value) for leaf in leaves(one)]
    return [float("nan") if value is None else value]


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


def test_the_baseline_has_the_best_of_the_rates_that_were_tried():
    kept = json.loads((folder_of("world-model") / STUDY).read_text())
    runs = {rate: Run(f"rate {rate} flat", SEEDS[0]) for rate in RATES_TRIED} | {RATES["flat"]: Run("flat", SEEDS[0])}
    found = {rate: kept[run.key]["development"] for rate, run in runs.items()}
    assert len(found) == 4
    assert min(found, key=found.__getitem__) == RATES["flat"]


def test_the_study_has_three_seeds_and_its_first_is_what_is_shipped(figures):
    kept = json.loads((folder_of("world-model") / STUDY).read_text())
    names = ("world model", "flat", "untrained")
    assert {Run(name, seed).key for name in names for seed in SEEDS} <= set(kept)
    assert kept[Run("world model", RECIPE.shipped_seed).key]["perplexity"] == figures["perplexity"]
    assert kept[Run("flat", RECIPE.shipped_seed).key]["perplexity"] == figures["flat"]["perplexity"]
    text = RECIPE.summary({run: kept[run.key] for run in RECIPE.runs() if run.key in kept})
    rates = [line.split("|") for line in text.splitlines() if line.startswith(("| flat | 0.", "| world model | 0."))]
    assert {cells[1].strip() for cells in rates if "chosen" in cells[4]} == set(RATES)
