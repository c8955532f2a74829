"""The cerebellum's engine: what the phantom does, for one machine, in NumPy; and what it refuses."""

import copy

import numpy as np
import pytest
import torch

from nmri3d.errors import InputError
from nmri3d.phantoms.cerebellum.config import FUNCTIONS
from nmri3d.phantoms.cerebellum.engine import CerebellumEngine
from nmri3d.phantoms.cerebellum.fitting import stacked
from nmri3d.phantoms.cerebellum.memory import UniversalMemory
from nmri3d.phantoms.cerebellum.plant import Scenario, realize
from nmri3d.phantoms.registry import shipped


@pytest.fixture(scope="module")
def network():
    return shipped("cerebellum")


def scenario(**what):
    return Scenario((20.0, -10.0, -30.0, 10.0, 5.0), **what)


def memory_of(network):
    return UniversalMemory(network.grid_engine, network.place_cells, network.hippocampus)


def drive(engine, memory, passes, parts=None, each_step=lambda: None):
    """The engine in closed loop with the plant of a pass, differences taken for velocities; errors [trials, steps, 5].

    The parts of every correction are put into the list `parts`; `each_step` is called after it.
    """
    errors = np.empty_like(passes.target)
    for trial, context in enumerate({"context_id": int(c)} for c in passes.context):
        engine.begin_trial(context)
        sensed, position = [], []
        for step, target in enumerate(passes.target[trial]):
            state = velocity = acceleration = None
            if step >= engine.delay:
                then = step - engine.delay
                sensed.append(position[then] + passes.sensor[trial, then])
                state = sensed[-1]
                velocity = sensed[-1] - sensed[-2] if len(sensed) > 1 else np.zeros(5)
                acceleration = sensed[-1] - 2 * sensed[-2] + sensed[-3] if len(sensed) > 2 else np.zeros(5)
            correction = engine.compute_correction(
                state, target, np.zeros(5) if velocity is None else velocity,
                np.zeros(5) if acceleration is None else acceleration, context,
            )  # fmt: skip
            assert sum(engine.parts.values()) == pytest.approx(correction, abs=1e-5)
            if parts is not None:
                parts.append(engine.parts)
            each_step()
            position.append(target + correction + passes.disturbance[trial, step])
            errors[trial, step] = target - position[-1]
        engine.end_trial()
        memory.store(*engine.experience(context))
        memory.consolidate(context)
    return errors


@pytest.mark.parametrize("delay", [1, 3])
def test_engine_does_what_the_phantom_does(network, delay):
    one = scenario(bias=(2.0, 0.0, -1.0, 0.0, 1.0), delay=delay, trials=3, steps=10, contexts=2)
    memory = memory_of(network)
    engine = CerebellumEngine(memory, network, delay=delay)
    assert drive(engine, memory, realize(one, network.config)) == pytest.approx(
        network.loop(**stacked([one], network))[0].numpy(), abs=2e-4
    )


def test_engine_never_writes_to_the_memory(network):
    memory = memory_of(network)
    memory.store(np.zeros((4, 5)), {}, np.ones((4, 5)))
    before = copy.deepcopy(memory.traces)
    engine = CerebellumEngine(memory, network, delay=1)
    for _ in range(3):
        engine.begin_trial({})
        for step in range(8):
            state = None if step == 0 else np.full(5, -1.0)
            engine.compute_correction(state, np.zeros(5), np.zeros(5), np.zeros(5), {})
        engine.end_trial()
    for name in ("estimate", "consolidated", "visits"):
        assert torch.equal(getattr(memory.traces, name), getattr(before, name))


def test_every_part_acts_to_reduce_a_lasting_error(network):
    """The plant lags by 1 on x: target - current is positive, and no function's part on x may be negative.

    Prediction and variance act as soon as something is sensed, trial and memory from the second trial on, before anything is.
    """
    memory = memory_of(network)
    engine = CerebellumEngine(memory, network, delay=2)
    one = scenario(bias=(-1.0, 0.0, 0.0, 0.0, 0.0), noise=0.0, trials=3, steps=12)
    seen = []
    drive(engine, memory, realize(one, network.config), seen)
    x = {name: np.array([parts[name][0] for parts in seen]).reshape(3, 12) for name in seen[0]}
    assert set(x) == {"memory", *FUNCTIONS}
    assert min(values.min() for values in x.values()) > -0.01
    assert (x["prediction"][0, 2:] > 0.1).all()
    assert (x["variance"][0, 2:] > 0.1).all()
    assert (x["trial"][1:] > 0.1).all()
    assert (x["memory"][1:] > 0.1).all()
    assert not any(x[name][0, :2].any() for name in x)
    assert sum(engine.parts.values())[0] == pytest.approx(1, abs=0.15)


def test_the_predicted_error_is_most_of_what_the_machine_would_do_by_itself(network):
    memory = memory_of(network)
    engine = CerebellumEngine(memory, network, delay=1)
    passes = realize(scenario(bias=(-1.0, 0.5, 0.0, 0.0, 2.0), noise=0.5, trials=6, steps=10, delay=1), network.config)
    predicted, smoothed = [], []

    def note():
        predicted.append(engine.predicted_error)
        smoothed.append(engine.variance_reduction)
        assert engine.variance_reduction == pytest.approx(engine.parts["variance"])

    drive(engine, memory, passes, each_step=note)
    uncorrected = -passes.disturbance[1:, 1:]
    rest = uncorrected - np.reshape(predicted, passes.disturbance.shape)[1:, 1:]
    assert np.square(rest).mean() < 0.25 * np.square(uncorrected).mean()
    both = rest - np.reshape(smoothed, passes.disturbance.shape)[1:, 1:]
    assert np.square(both).mean() < np.square(rest).mean()


def test_engine_and_memory_stay_on_the_device_of_the_network(network):
    """Whoever makes a tensor without naming the network's device makes it on "meta" here, where it has no values."""
    memory = memory_of(network)
    passes = realize(scenario(bias=(1.0,) * 5, trials=2, steps=6), network.config)
    expected = drive(CerebellumEngine(memory, network), memory, passes)
    with torch.device("meta"):
        memory = memory_of(network)
        assert drive(CerebellumEngine(memory, network), memory, passes) == pytest.approx(expected)
        assert memory.retrieve(passes.target[0, -1], {})[0]["bias"].any()


def test_engine_refuses_what_does_not_fit(network):
    five = np.zeros(5)
    with pytest.raises(InputError, match="delay is 7 steps"):
        CerebellumEngine(memory_of(network), network, delay=7)
    engine = CerebellumEngine(memory_of(network), network)
    for asked in (
        lambda: engine.parts,
        engine.end_trial,
        lambda: engine.compute_correction(None, five, five, five, {}),
    ):
        with pytest.raises(InputError, match="begin_trial first"):
            asked()
    with pytest.raises(InputError, match=r"no context 5: .* 0 to 1"):
        engine.begin_trial({"context_id": 5})
    engine.begin_trial({})
    with pytest.raises(InputError, match="compute_correction first"):
        _ = engine.predicted_error
    with pytest.raises(InputError, match="must be None"):
        engine.compute_correction(five, five, five, five, {})
    with pytest.raises(InputError, match="begun in context 0, and the step is of context 1"):
        engine.compute_correction(None, five, five, five, {"context_id": 1})
    with pytest.raises(InputError, match="target state must be 5 finite numbers, one for each of x, y"):
        engine.compute_correction(None, np.zeros(4), five, five, {})
    for _ in range(2):
        engine.compute_correction(None, five, five, five, {})
    with pytest.raises(InputError, match="nothing was sensed in 2 steps with a delay of 2"):
        engine.experience({})
    with pytest.raises(InputError, match="not None"):
        engine.compute_correction(None, five, five, five, {})
    with pytest.raises(InputError, match="velocity must be 5 finite"):
        engine.compute_correction(five, five, five * np.nan, five, {})
    engine.compute_correction(five, five, five, five, {})
    assert len(engine.experience({})[0]) == 1


@pytest.mark.parametrize("asked", [-1, 2, "1", None, 0.5])
def test_the_memory_refuses_contexts_that_it_does_not_keep(network, asked):
    memory = memory_of(network)
    for act in (
        lambda context: memory.retrieve(np.zeros(5), context),
        lambda context: memory.store(np.zeros((2, 5)), context, np.zeros((2, 5))),
        memory.consolidate,
    ):
        with pytest.raises(InputError, match="the memory keeps 2"):
            act({"context_id": asked})
