"""The tables of BioHama's study say what the figures say, and what is missing."""

from __future__ import annotations

import json

import pytest

from nmri3d.phantoms.biohama.tasks import FAMILIES
from nmri3d.phantoms.biohama.training import ABLATIONS, RATES, RATES_TRIED, RECIPE, SEEDS
from nmri3d.phantoms.registry import folder_of
from nmri3d.phantoms.training import STUDY, Run


def figures(value: float, **others: float) -> dict:
    row = dict.fromkeys((*FAMILIES, "mean"), value)
    splits = ("training", "validation", "in-dist", "longer", "combinations", "OOD")
    return {
        "parameters": 1000,
        "accuracy": {split: row | {name: others.get(name, value) for name in FAMILIES} for split in splits},
        "training": {"cpu_seconds": 12.3, "rate": 0.003},
        "few_shot": {
            "turn": {"adapted": {"0": 0.1, "8": value}, "best known": {"0": 0.1, "8": 0.3}},
            "mirror": {"adapted": {"0": 0.0, "8": 0.2}},
        },
        "growth": {"new operation before": 0.0, "new operation after": value, "least needed module": 3},
    }


def row_of(text: str, *start: str) -> list[str]:
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[: len(start)] == list(start):
            return cells
    raise AssertionError(f"no row {start} in\n{text}")


def test_the_study_has_three_seeds_of_everything_and_no_run_twice():
    runs = RECIPE.runs()
    assert len({run.key for run in runs}) == len(runs)
    for name in ("biohama", "lstm", "gru", "transformer", *(f"without {each}" for each in (*ABLATIONS, "curriculum"))):
        assert [run.seed for run in runs if run.name == name] == list(SEEDS)


def test_mean_and_spread_and_the_margin_over_the_best_baseline():
    found = {
        Run("biohama", 0): figures(0.96),
        Run("biohama", 1): figures(0.90),
        Run("gru", 0): figures(0.50, chains=0.92),
        Run("lstm", 0): figures(0.40, composition=0.81),
    }
    text = RECIPE.summary(found)
    assert row_of(text, "biohama", "1,000")[2] == "93.0 ± 4.2"
    assert row_of(text, "composition", "longer", "lstm")[3:] == ["81.0", "+12.0", "does not"]
    assert row_of(text, "chains", "longer", "gru")[3:] == ["92.0", "+1.0", "does not"]
    assert row_of(text, "context", "longer", "gru")[3:] == ["50.0", "+43.0", "tells them apart"]
    missing = text.split("Not run yet: ")[1].rstrip(".").split(", ")
    assert "transformer (seed 2)" in missing
    assert "gru (seed 0)" not in missing


def test_an_ablation_within_the_range_of_the_seeds_is_not_said_to_contribute():
    found = {Run("biohama", seed): figures(value) for seed, value in enumerate((0.98, 0.96, 0.93))}
    found |= {Run("without router", 0): figures(0.70), Run("without STDP", 0): figures(0.94)}
    text = RECIPE.summary(found)
    assert row_of(text, "without router")[-1] == "yes"
    assert row_of(text, "without router")[6] == "+28.0"  # against the same seed
    assert row_of(text, "without STDP")[-1] == "not shown"


def test_few_shot_stands_beside_picking_the_best_known_word():
    text = RECIPE.summary({Run("biohama", 0): figures(0.96), Run("biohama", 1): figures(0.90)})
    assert row_of(text, "turn", "tuned on it", "adapted")[-1] == "93.0 ± 4.2"
    assert row_of(text, "turn", "tuned on it", "best known")[-1] == "30.0 ± 0.0"
    assert row_of(text, "mirror", "new", "adapted")[-1] == "20.0 ± 0.0"


def test_the_comparison_says_what_was_tuned_for_whom():
    text = RECIPE.summary({Run("gru", 0): figures(0.5)})
    assert "No other tuning was equal" in text.split("### Task by task")[0]


def test_the_rates_tried_stand_beside_the_chosen_one():
    text = RECIPE.summary(
        {Run("gru", 0): figures(0.5), Run("rate 0.001 gru", 0): figures(0.25), Run("gru", 1): figures(0.1)}
    )
    rates = [line for line in text.split("Learning rates tried")[1].splitlines() if line.startswith("| gru")]
    assert len(rates) == 2
    assert "chosen" in rates[1]
    assert "50.0" in rates[1]


@pytest.mark.parametrize("name", RATES)
def test_the_rates_are_those_that_the_study_found_best(name):
    kept = json.loads((folder_of("biohama") / STUDY).read_text())
    runs = {tried: Run(f"rate {tried} {name}", SEEDS[0]) for tried in RATES_TRIED} | {RATES[name]: Run(name, SEEDS[0])}
    for tried, run in runs.items():
        assert kept[run.key]["training"]["rate"] == tried
    found = {tried: kept[run.key]["accuracy"]["validation"]["mean"] for tried, run in runs.items()}
    assert max(found, key=found.__getitem__) == RATES[name]


def test_nothing_measured_is_said_to_be_missing():
    assert RECIPE.summary({}).startswith("Not run yet")
