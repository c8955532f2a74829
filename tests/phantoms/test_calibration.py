"""When a truth counts as found: effect, permutation p and z against independent computations."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from nmri3d.phantoms.calibration import Check, Finding, Measured, is_found, judge


def check_of(measured: Measured, least: float = 0.9) -> Check:
    return Check("a check", "fMRI", "planted", "expected", least, lambda backend, random: measured)


def judged(scores: Any, truth: Any, strata: Any = None) -> Finding:
    scores = np.asarray(scores, float)
    names = tuple(f"c{i}" for i in range(len(scores)))
    strata = None if strata is None else np.asarray(strata)
    return judge(check_of(Measured(names, scores, np.asarray(truth, bool), strata)), backend=None)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_the_effect_is_the_auroc(rows: list[tuple[int, bool]]) -> None:
    scores, truth = zip(*rows, strict=True)
    if 0 < sum(truth) < len(truth):
        assert judged(scores, truth).effect == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_few_relabelings_are_all_counted() -> None:
    random = np.random.default_rng(0)
    scores, truth = random.normal(size=10), np.arange(10) < 3  # 120 relabelings
    finding = judged(scores, truth)
    effects = [roc_auc_score(np.isin(np.arange(10), chosen), scores) for chosen in combinations(range(10), 3)]
    expected = sum(effect >= finding.effect - 1e-12 for effect in effects) / len(effects)
    assert finding.p == pytest.approx(expected)
    assert finding.z == pytest.approx((finding.effect - np.mean(effects)) / np.std(effects))


def test_few_relabelings_within_strata_are_all_counted() -> None:
    scores, strata = np.random.default_rng(3).normal(size=9), np.array([0, 1, 0, 1, 0, 1, 2, 2, 2])
    truth = np.isin(np.arange(9), (0, 1, 3))  # one of the first stratum, two of the second: 3 x 3 relabelings
    effects = [
        roc_auc_score(np.isin(np.arange(9), (one, *two)), scores)
        for one in (0, 2, 4)
        for two in combinations((1, 3, 5), 2)
    ]
    finding = judged(scores, truth, strata)
    assert finding.p == pytest.approx(sum(effect >= finding.effect - 1e-12 for effect in effects) / 9)
    assert finding.z == pytest.approx((finding.effect - np.mean(effects)) / np.std(effects))


def test_null_networks_are_measured_without_the_edit_that_plants_the_truth() -> None:
    planted, silent = (
        Measured(("a", "b"), np.array(scores), np.array([True, False])) for scores in ([2.0, 1.0], [1.0, 1.0])
    )
    check = replace(check_of(planted), sham=lambda backend, random: silent)
    assert judge(check, backend=None).effect == 1.0  # type: ignore[arg-type]
    assert judge(check.on_nulls, backend=None).effect == 0.5  # type: ignore[arg-type]
    unedited = check_of(planted)
    assert unedited.on_nulls is unedited


def test_many_relabelings_agree_with_the_rank_test() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(300) < 30
    for shift in (0.0, 0.3, 0.5):
        scores = random.normal(size=300) + shift * truth
        exact = mannwhitneyu(scores[truth], scores[~truth], alternative="greater").pvalue
        assert judged(scores, truth).p == pytest.approx(exact, abs=0.02)


def test_what_follows_from_the_strata_alone_is_not_found() -> None:
    strata = np.repeat([0, 1], 50)
    truth = np.zeros(100, bool)
    truth[50:90] = True  # true ones stand nearly all in the stratum of large scores
    truth[:2] = True
    scores = 10.0 * strata + np.random.default_rng(2).normal(size=100)
    assert judged(scores, truth).p < 0.01
    assert judged(scores, truth, strata).p > 0.05


def test_equal_scores_find_nothing() -> None:
    finding = judged(np.zeros(50), np.arange(50) < 5)
    assert (finding.effect, finding.p, finding.z) == (0.5, 1.0, 0.0)


def test_all_three_conditions_count() -> None:
    scores = np.arange(100.0)
    finding = judged(scores, scores >= 95)
    check = check_of(finding.measured, least=0.95)
    assert finding.effect == 1.0
    assert finding.p < 0.01
    assert is_found(check, finding, threshold=finding.z - 0.1)
    assert not is_found(check, finding, threshold=finding.z + 0.1)  # null networks reach as much
    weak = judged(scores, (scores >= 60) & (scores < 80))
    assert weak.p < 0.01
    assert not is_found(check, weak, threshold=0.0)  # certain, and smaller than what was fixed beforehand


def test_the_leading_candidates_are_told_with_their_truth() -> None:
    finding = judged([1, 5, 3, 4, 2], [False, True, False, True, False])
    assert finding.leading[:3] == (("c1", 5.0, True), ("c3", 4.0, True), ("c2", 3.0, False))


@pytest.mark.parametrize(
    ("scores", "truth"),
    [([1, 2], [False, False]), ([1, 2], [True, True]), ([1, np.nan], [True, False]), ([1], [True, False])],
)
def test_a_check_that_cannot_be_judged_is_refused(scores: Any, truth: Any) -> None:
    with pytest.raises(ValueError, match="check"):
        judged(scores, truth)
