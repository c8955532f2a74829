"""Calibration of the shipped phantoms: all that is planted is found, and the null network yields nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nmri3d.errors import InputError
from nmri3d.phantoms import calibrating, registry
from nmri3d.phantoms.calibrating import FRESH_SEED, Nulls, calibrate, checks_of, keep_nulls, kept_nulls, null_network
from nmri3d.phantoms.registry import folder_of, shipped_names
from nmri3d.phantoms.report import as_markdown, as_values
from tests.cli.test_phantom_commands import run  # noqa: F401  (a fixture)

CHEAP = "induction"
LED_BY_TRUTHS = ("cerebellum", "induction", "world-model")
"""Phantoms in which no part may come before all true ones; others do as much as their effect asks."""


@pytest.fixture(scope="module")
def calibrated():
    return calibrate(CHEAP)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The folder of weights, as a copy that may be changed."""
    shutil.copytree(folder_of(CHEAP), tmp_path / CHEAP)
    for module in (registry, calibrating):
        monkeypatch.setattr(module, "folder_of", lambda name: tmp_path / name)
    return tmp_path / CHEAP


@pytest.mark.parametrize("name", shipped_names())
def test_every_planted_truth_is_found_and_the_null_network_yields_nothing(name):
    calibration = calibrate(name)
    assert calibration.networks >= 100
    assert [result.check.name for result in calibration.results if not result.found] == []
    assert [result.check.name for result in calibration.null_results if result.found] == []
    assert len(calibration.results) == len(calibration.null_results) == len(checks_of(name)) >= 3
    assert calibration.passed
    if name in LED_BY_TRUTHS:
        assert all(result.finding.leading[0][2] for result in calibration.results)


def test_the_threshold_is_a_sample_that_one_in_twenty_exceeds():
    largest = np.random.default_rng(0).normal(size=100)
    nulls = Nulls("", (), tuple(largest), 0.0)
    assert nulls.threshold in largest
    assert (largest > nulls.threshold).sum() <= 5 <= (largest >= nulls.threshold).sum()


def test_null_networks_differ_from_the_trained_one_and_from_each_other():
    prints = [registry.load_phantom(CHEAP).info.fingerprint]
    for seed in (FRESH_SEED, FRESH_SEED + 1, FRESH_SEED):
        with null_network(CHEAP, seed) as backend:
            prints.append(backend.info.fingerprint)
    assert len(set(prints)) == 3
    assert prints[1] == prints[3]


def test_nulls_of_other_weights_or_checks_are_refused(copied):
    nulls = kept_nulls(CHEAP)
    assert nulls is not None
    for stale in (
        replace(nulls, fingerprint="other"),
        replace(nulls, checks=nulls.checks[1:]),
        replace(nulls, fresh=nulls.fresh + 1),
    ):
        keep_nulls(CHEAP, stale)
        assert kept_nulls(CHEAP) == stale
        with pytest.raises(InputError, match="nmri3d calibrate induction --nulls 100"):
            calibrate(CHEAP)
    (copied / "nulls.json").unlink()
    assert kept_nulls(CHEAP) is None
    with pytest.raises(InputError, match="--nulls 100"):
        calibrate(CHEAP)


def test_the_report_tells_found_and_missed_with_margins(calibrated):
    missed = replace(
        calibrated, results=tuple(replace(result, found=number > 0) for number, result in enumerate(calibrated.results))
    )
    assert calibrated.passed
    assert not missed.passed
    first, *others = [line for line in as_markdown([missed]).splitlines() if line.startswith("|")][2:]
    assert first.endswith("| MISSED |")
    assert all(line.endswith("| found |") for line in others)
    (values,) = json.loads(json.dumps(as_values([missed])))
    assert values["passed"] is False
    for told, result in zip(values["checks"], calibrated.results, strict=True):
        assert told["z_margin"] == pytest.approx(result.finding.z - calibrated.threshold)
        assert told["effect_margin"] == pytest.approx(result.finding.effect - result.check.least)
        assert len(told["leading"]) == min(10, result.finding.n_candidates)


def test_the_command_writes_tables_values_and_pictures(calibrated, run, tmp_path):  # noqa: F811
    code, out, _ = run("calibrate", CHEAP, "--out", str(tmp_path))
    assert code == 0
    assert out.strip() == (tmp_path / "report.md").read_text().strip() == as_markdown([calibrated])
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(as_values([calibrated])))
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures
    for name in pictures:
        picture = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        left, right = np.split(picture, 2, axis=1)
        assert (np.ptp(left, axis=-1) > 60).mean() > 0.01  # painted
        assert np.abs(left - right).mean() > 1  # and not the same twice


def test_a_missed_truth_ends_the_command_with_an_error_code(copied, run):  # noqa: F811
    nulls = kept_nulls(CHEAP)
    assert nulls is not None
    keep_nulls(CHEAP, replace(nulls, largest=(1e6,) * 100))
    code, out, _ = run("calibrate", CHEAP, "--json")
    assert code == 1
    assert json.loads(out)[0]["passed"] is False
    code, out, err = run("calibrate", CHEAP, "--nulls", "20")
    assert code != 0
    assert "at least 100" in err
