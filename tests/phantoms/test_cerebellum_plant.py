"""The simulated machine, its bound, and the texts that describe it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.errors import InputError
from nmri3d.phantoms.cerebellum.bound import possible_reduction, prediction_variance
from nmri3d.phantoms.cerebellum.config import Config
from nmri3d.phantoms.cerebellum.measure import bare_quadratic
from nmri3d.phantoms.cerebellum.plant import Scenario, colored, double_root, path, realize
from nmri3d.phantoms.cerebellum.reference import held_out, reference_texts
from nmri3d.phantoms.cerebellum.scenario import NAMED, check, read_scenario, write_scenario

CONFIG = Config()


@pytest.mark.parametrize("correlation", [0.5, 0.9, 0.98])
def test_noise_has_unit_variance_and_the_stated_correlations(correlation):
    noise = colored(np.random.default_rng(0), 20_000, 6, correlation)
    assert noise.var(axis=(0, 2)) == pytest.approx(np.ones(6), abs=0.02)
    p = double_root(correlation)
    for k in (1, 2, 4):
        stated = p**k * (1 + k * (1 - p**2) / (1 + p**2))
        assert np.mean(noise[:, 0] * noise[:, k]) == pytest.approx(stated, abs=0.02)
    assert np.mean(noise[:, 0] * noise[:, 1]) == pytest.approx(correlation, abs=0.02)


@pytest.mark.parametrize(("correlation", "delay"), [(0.9, 1), (0.95, 2), (0.98, 3)])
def test_bound_is_the_error_of_the_best_regression_on_all_that_was_sensed(correlation, delay):
    random = np.random.default_rng(1)
    noise = colored(random, 12_000, 10, correlation).swapaxes(1, 2).reshape(-1, 10)
    sensed = noise + 0.1 * random.standard_normal(noise.shape)
    stated = prediction_variance(correlation, delay, 0.1, 10)
    for step in range(10):
        known = sensed[:, : max(0, step - delay + 1)]
        rest = noise[:, step]
        if known.shape[1]:
            rest = rest - known @ np.linalg.lstsq(known, rest, rcond=None)[0]
        assert rest.var() == pytest.approx(stated[step], rel=0.03)


def test_bound_falls_with_delay_and_rises_with_correlation():
    reductions = [[possible_reduction(r, d, 0.1, 16) for d in (1, 2, 3)] for r in (0.9, 0.95, 0.98)]
    assert (np.diff(reductions, axis=1) < 0).all()
    assert (np.diff(reductions, axis=0) > 0).all()


def test_bare_quadratic_extrapolation_adds_more_than_it_takes_away():
    assert bare_quadratic(0.95, 2, 0.1) > 1 > 1 - possible_reduction(0.95, 2, 0.1, 16)


def test_path_ends_at_the_place_and_starts_and_ends_at_rest():
    way = path(np.array([30.0, -10.0, 0.0, 20.0, 5.0]), 50)
    assert way[-1] == pytest.approx([30.0, -10.0, 0.0, 20.0, 5.0])
    speed = np.linalg.norm(np.diff(way, axis=0), axis=1)
    assert speed.argmax() in range(20, 30)
    assert speed[[0, -1]].max() < 0.02 * speed.max()


def test_same_scenario_same_pass_and_seed_changes_noise_alone():
    one, again, other = (realize(Scenario((1.0,) * 5, bias=(2.0,) * 5, seed=seed), CONFIG) for seed in (3, 3, 4))
    assert np.array_equal(one.disturbance, again.disturbance)
    assert not np.array_equal(one.disturbance, other.disturbance)
    assert np.array_equal(one.target, other.target)


def test_second_context_reverses_the_bias_and_local_bias_stays_near_the_place():
    two = realize(Scenario((30.0,) + (0.0,) * 4, bias=(2.0,) + (0.0,) * 4, noise=0.0, contexts=2), CONFIG)
    assert two.context.tolist() == [0, 1, 0, 1]
    assert two.disturbance[:, 0, 0].tolist() == [2, -2, 2, -2]
    local = realize(Scenario((50.0,) + (0.0,) * 4, bias=(2.0,) + (0.0,) * 4, noise=0.0, local=True), CONFIG)
    assert local.disturbance[0, -1, 0] == pytest.approx(2)
    assert local.disturbance[0, 0, 0] < 0.02


def test_push_lasts_as_long_as_stated():
    pushed = realize(Scenario((0.0,) * 5, noise=0.0, push=(0.0, 3.0, 0.0, 0.0, 0.0), push_at=40), CONFIG)
    hit = np.flatnonzero(pushed.disturbance.reshape(-1, 5)[:, 1])
    assert hit.tolist() == list(range(40, 40 + CONFIG.push_steps))


five = st.tuples(*[st.floats(-20, 20).map(lambda value: round(value, 3)) for _ in range(5)])
scenarios = st.builds(
    Scenario,
    place=five,
    bias=five,
    drift=five,
    push=five,
    push_at=st.integers(0, 15),
    noise=st.floats(0, 5),
    correlation=st.floats(0, 0.99),
    delay=st.integers(1, 3),
    trials=st.integers(1, 4),
    steps=st.integers(16, 16),
    seed=st.integers(0, 2**31),
    contexts=st.integers(1, 2),
    local=st.booleans(),
)


@given(scenarios)
@settings(max_examples=60, deadline=None)
def test_written_scenario_reads_back(scenario):
    check(scenario, CONFIG)
    read = read_scenario(write_scenario(scenario), CONFIG)
    assert read == (scenario if any(scenario.push) else Scenario(**{**vars(scenario), "push_at": 0}))


@given(st.text(max_size=60) | st.text("reach to 1234567890.-bias push at", max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_other_text_is_refused_in_words(text):
    try:
        read = read_scenario(text, CONFIG)
    except InputError as error:
        assert len(str(error)) > 30
    else:
        assert read == read_scenario(write_scenario(read), CONFIG)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("walk to 1 2 3 4 5", "starts with 'reach to'"),
        ("loose tol", "did you mean 'loose tool'"),
        ("reach to 1 2 3", "five numbers"),
        ("reach to 90 0 0 0 0", "out of reach"),
        ("reach to 1 2 3 4 5 biass 1 1 1 1 1", "did you mean 'bias'"),
        ("reach to 1 2 3 4 5 noise much", "not 'much'"),
        ("reach to 1 2 3 4 5 noise inf", "needs a number"),
        ("reach to 1 2 3 4 5 delay 9", "between 1 and 3"),
        ("reach to 1 2 3 4 5 delay 1.5", "whole number"),
        ("reach to 1 2 3 4 5 trials 30 steps 16", "holds 64"),
        ("reach to 1 2 3 4 5 trials 0", "trials 0"),
        ("reach to 1 2 3 4 5 noise 1 noise 2", "twice"),
        ("reach to 1 2 3 4 5 push 1 0 0 0 0", "at which it starts"),
        ("reach to 1 2 3 4 5 push 1 0 0 0 0 at 99", "steps 0 to 63"),
        ("reach to 1 2 3 4 5 bias 99 0 0 0 0", "at most 20"),
        ("", "starts with"),
        (None, "starts with"),
    ],
)
def test_errors_name_cause_and_remedy(text, told):
    with pytest.raises(InputError, match=told):
        read_scenario(text, CONFIG)


def test_named_scenarios_and_missing_words_fit():
    for name, text in NAMED.items():
        assert read_scenario(name, CONFIG) == read_scenario(text, CONFIG)
    assert read_scenario("reach to 1 2 3 4 5 trials 8", CONFIG).steps == 8
    assert read_scenario("reach to 1 2 3 4 5 steps 32", CONFIG).trials == 2


def test_reference_is_varied_never_held_out_and_always_the_same():
    texts = reference_texts(CONFIG)
    read = [read_scenario(text, CONFIG) for text in texts]
    assert len(set(texts)) >= 100
    assert texts == reference_texts(CONFIG)
    assert not any(held_out(one.place) for one in read)
    assert {one.delay for one in read} == {1, 2, 3}
    assert any(one.contexts == 2 for one in read)
