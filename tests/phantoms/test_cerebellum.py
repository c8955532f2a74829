"""The cerebellum phantom: wiring, learning, memory, engine, and what the shipped weights reach."""

import json

import numpy as np
import pytest
import torch

from nmri3d.phantoms.cerebellum.circuit import FUNCTIONS
from nmri3d.phantoms.cerebellum.config import AXES
from nmri3d.phantoms.cerebellum.fitting import Fit, fit, stacked
from nmri3d.phantoms.cerebellum.lesions import WHAT, without
from nmri3d.phantoms.cerebellum.measure import bias_by_trial, memory_change, repeats, step_milliseconds, variance
from nmri3d.phantoms.cerebellum.memory import UniversalMemory
from nmri3d.phantoms.cerebellum.model import KINDS, Cerebellum
from nmri3d.phantoms.cerebellum.plant import Scenario
from nmri3d.phantoms.cerebellum.reference import random_scenario
from nmri3d.phantoms.cerebellum.training import RECIPE, CerebellumRecipe
from nmri3d.phantoms.registry import folder_of, keep, shipped

TEXT = "reach to 30 10 0 20 5 bias 2 0 -1 0 0 noise 0.3 trials 3 steps 8 seed 5"


@pytest.fixture(scope="module")
def network():
    return shipped("cerebellum")


@pytest.fixture
def fresh():
    torch.manual_seed(3)
    return Cerebellum()


def run(network, text=TEXT):
    with torch.no_grad():
        return network(**network.inputs(network.stimulus(text)))[0]


def scenario(**what):
    return Scenario((20.0, -10.0, -30.0, 10.0, 5.0), **what)


def memory_of(network):
    return UniversalMemory(network.grid_engine, network.place_cells, network.hippocampus)


# -- the module ------------------------------------------------------------------------------------------------------


def test_weights_partition_the_parameters(fresh):
    """Each entry is set to a number of its own; the parts together must hold every number once."""
    first = 0
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.copy_(torch.arange(first, first + parameter.numel()).view_as(parameter))
            first += parameter.numel()
    held = torch.cat([weight.detach().flatten() for part in fresh.parts for weight in fresh.weights(part).values()])
    assert sorted(held.tolist()) == list(range(first))


def test_gradients_reach_every_entry_of_every_parameter(fresh):
    """Over scenarios as in training; a granule cell that never fires would have a row without any."""
    random, reached = np.random.default_rng(0), {}
    for delay in (1, 2, 3):
        drawn = [random_scenario(random, fresh.config, 4, 10, delay) for _ in range(32)]
        size = torch.tensor([one.noise for one in drawn])[:, None, None, None]
        fresh.zero_grad()
        (fresh.loop(**stacked(drawn, fresh)) / size).square().mean().backward()
        for name, value in fresh.named_parameters():
            assert torch.isfinite(value.grad).all(), name
            reached[name] = reached.get(name, False) | (value.grad != 0)
    assert {name: int((~each).sum()) for name, each in reached.items() if not each.all()} == {}


def test_every_site_is_called_once_a_step_with_its_parts(fresh):
    calls = {site: [] for site, _ in KINDS.values()}
    hooks = [(site, lambda tensor, hook: calls[hook.name].append(tensor.shape)) for site in calls]
    with fresh.hooks(fwd_hooks=hooks):
        run(fresh)
    for site, shapes in calls.items():
        width = sum(part.site == site for part in fresh.parts)
        assert shapes == [(1, width)] * 24, site


def test_batch_rows_do_not_mix(network):
    drawn = [scenario(bias=(one, 0.0, 0.0, -one, 0.0), seed=7) for one in (0.5, 2.0, -3.0)]
    together = network.loop(**stacked(drawn, network))
    for row, one in enumerate(drawn):
        assert torch.allclose(together[row], network.loop(**stacked([one], network))[0], atol=1e-5)


def test_twice_the_disturbance_is_twice_the_error(network):
    inputs = stacked([scenario(bias=(1.0, 0.0, 0.5, 0.0, 0.0))], network)
    doubled = {**inputs, "disturbance": 2 * inputs["disturbance"], "sensor": 2 * inputs["sensor"]}
    assert torch.allclose(network.loop(**doubled), 2 * network.loop(**inputs), atol=1e-4)


def test_nothing_is_corrected_before_anything_is_sensed(network):
    inputs = stacked([scenario(bias=(2.0,) * 5, delay=3)], network)
    error = network.loop(**inputs)
    assert torch.allclose(error[0, 0, :3], -inputs["disturbance"][0, 0, :3], atol=1e-6)


def test_place_cells_compete_and_fire_most_at_their_own_center(network):
    cells, grid = network.place_cells, network.grid_engine
    rates = cells(grid, grid(cells.centers), cells.synapses(grid))
    assert torch.allclose(rates.sum(1), torch.ones(len(rates)), atol=1e-5)
    own = (rates.argmax(0) == torch.arange(len(rates))).float().mean()
    assert own > 0.9


def test_bias_is_remembered_by_place_and_context(network):
    memory = memory_of(network)
    here, far, error = np.array([30.0, 0, 0, 0, 0]), np.array([-40.0, 40, -40, 30, -30]), np.array([2.0, 0, 0, 0, 0])
    assert memory.retrieve(here, {}) == []
    for _ in range(30):
        memory.store(np.tile(here, (8, 1)), {"context_id": 1}, np.tile(error, (8, 1)))
        memory.consolidate({"context_id": 1})
    found = memory.retrieve(here, {"context_id": 1})[0]
    assert found["bias"] == pytest.approx(error, abs=0.1)
    assert found["consolidated_bias"] == pytest.approx(error, abs=0.2)
    assert found["context_id"] == 1
    assert abs(memory.retrieve(far, {"context_id": 1})[0]["bias"][0]) < 0.2
    assert memory.retrieve(here, {"context_id": 0}) == []


def test_memory_learns_the_same_with_and_without_the_cerebellum(network):
    assert memory_change(network) < 1e-5


# -- wiring and answer key -------------------------------------------------------------------------------------------


def test_answer_key_is_true_of_the_wiring(network):
    """Silencing a named cell changes the correction of its own axis at that step, and of no other."""
    kept = {}
    with network.hooks(fwd_hooks=[("hook_motor", lambda t, hook: kept.setdefault("clean", []).append(t))]):
        run(network)
    for truth in network.answer_key()[: len(AXES)]:
        axis = AXES.index(truth.name.removeprefix("cells of "))
        for name in truth.components[::7]:
            kind, _, index = name.split(".")
            column, seen = int(index), []

            def silence(tensor, hook, column=column):
                tensor = tensor.clone()
                tensor[:, column] = 0
                return tensor

            def watch(tensor, hook, seen=seen):
                seen.append(tensor)

            with network.hooks(fwd_hooks=[(KINDS[kind][0], silence), ("hook_motor", watch)]):
                run(network)
            moved = (torch.cat(seen) - torch.cat(kept["clean"])).abs().amax(0)
            assert moved[axis] > 1e-4, name
            assert moved.argmax() == axis


def test_wiring_is_drawn_anew_by_every_seed(network, fresh):
    assert not torch.equal(network.circuit.purkinje_axis, fresh.circuit.purkinje_axis)
    assert torch.equal(network.circuit.purkinje_axis.bincount(), fresh.circuit.purkinje_axis.bincount())


@pytest.mark.parametrize("what", WHAT)
def test_each_lesion_makes_it_worse_and_leaves_the_weights(network, what):
    figures = json.loads((folder_of("cerebellum") / "metrics.json").read_text())["figures"]
    assert figures["error_without"][what] > figures["error"]
    damaged = without(network, what)
    assert all(torch.equal(one, other) for one, other in zip(damaged.parameters(), network.parameters(), strict=True))
    assert not torch.equal(run(damaged), run(network))


def test_functions_silence_their_own_cells_only(network):
    for number, function in enumerate(FUNCTIONS):
        seen = []
        damaged = without(network, function)
        with damaged.hooks(fwd_hooks=[("circuit.hook_purkinje", lambda t, hook, seen=seen: seen.append(t))]):
            run(damaged)
        silent = (torch.cat(seen) == 0).all(0)
        assert torch.equal(silent, network.circuit.purkinje_function == number)


# -- figures ---------------------------------------------------------------------------------------------------------


def test_shipped_figures_reach_the_numbers():
    """As the trainer wrote them; the next test measures some of them anew."""
    figures = json.loads((folder_of("cerebellum") / "metrics.json").read_text())["figures"]
    for row in figures["variance"]:
        assert row["reduction_of_noise"] <= row["bound"] + 0.02, "better than the best possible"
        if row["bound"] >= 0.5:
            assert row["reduction_of_noise"] >= 0.5, row
        assert row["reduction_against_hippocampus"] == pytest.approx(1 - row["both"] / row["hippocampus"])
    assert sum(row["bound"] >= 0.5 for row in figures["variance"]) == 6
    assert figures["bias_after_20_trials"]["both"] < 0.05
    assert figures["memory_changed_by_cerebellum"] < 1e-5
    assert 0.02 < figures["granules_active"] < 0.5
    assert figures["weak_motor"]["learning"][4] < 0.8 * figures["weak_motor"]["without"][4]


def test_shipped_weights_give_the_shipped_figures(network):
    figures = json.loads((folder_of("cerebellum") / "metrics.json").read_text())["figures"]
    kept = next(row for row in figures["variance"] if (row["correlation"], row["delay"]) == (0.95, 2))
    again = variance(network, without(network, "cerebellum"), 0.95, 2)
    assert again == pytest.approx(kept, abs=1e-3)
    bias = bias_by_trial(network)
    assert bias == pytest.approx(figures["bias_by_trial"]["both"], abs=1e-3)
    assert bias[-1] < 0.05


def test_the_time_of_a_step_is_that_of_the_engine_and_of_its_network(network):
    took = step_milliseconds(network, steps=40)
    assert set(took) == {"engine", "network"}
    assert min(took.values()) > 0


def test_learning_within_a_pass_is_what_climbing_fibers_cause(network):
    one = repeats(1, network.config, bias=(3.0,) * 5, trials=2)
    state = network.circuit.begin(1, torch.device("cpu"))
    granule = torch.rand(1, 3, network.config.granules)
    network.circuit.learn(state, torch.tensor([[1.0, 0, 0, 0, 0]]), granule)
    assert (state.learned[:, :, 0] * granule).sum() > 0
    assert not state.learned[:, :, 1:].any()
    assert not torch.equal(
        network.loop(**stacked(one, network)), without(network, "learning").loop(**stacked(one, network))
    )


def test_training_lowers_the_loss_and_repeats_from_its_seed():
    losses, networks = [], []
    for _ in range(2):
        torch.manual_seed(5)
        network = Cerebellum()
        losses.append(fit(network, np.random.default_rng(5), Fit(passes=8, batch=4)))
        networks.append(network)
    assert losses[0] == losses[1]
    assert np.mean(losses[0][-2:]) < np.mean(losses[0][:2])
    assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True))


def test_study_lists_runs_once_and_tables_what_is_there():
    runs = RECIPE.runs()
    assert len({one.key for one in runs}) == len(runs) == 21
    variance_row = {"correlation": 0.95, "delay": 2, "hippocampus": 1.0, "both": 0.4, "bare_quadratic": 2.0}
    variance_row |= {
        "uncorrected": 0.99,
        "reduction_of_noise": 0.6,
        "bound": 0.66,
        "reduction_against_hippocampus": 0.61,
    }
    rows = [variance_row | {"delay": delay} for delay in (1, 2, 3)]
    small = {"error": 1.25, "bias_by_trial": [0.2] * 20, "variance": rows}
    weak = {"learning": [0.125] * 20, "without": [0.375] * 20}
    whole = small | {
        "weak_motor": weak,
        "bias_by_trial": {"both": [0.1] * 20},
        "error_without": dict.fromkeys(WHAT, 2.5),
        "step_milliseconds": {"engine": 0.75, "network": 0.5},
    }
    text = CerebellumRecipe().summary({runs[0]: whole, runs[1]: small | {"variance": rows}})
    assert "| 0.95 | 2 | 0.400 | 0.600 | 0.660 | 1.000 | 0.610 | 0.990 | 2.000 |" in text
    assert "0.750 ms (median), its network alone 0.500 ms" in text
    assert text.index("| correlation | delay |") < text.index("| trained |") < text.index("| silenced |")
    assert "1.250" in text
    assert "2.500" in text
    assert text.index("0.125") < text.index("0.375")
    assert runs[2].key in text
    assert runs[0].key not in text


def test_weights_survive_keeping(network, tmp_path):
    from safetensors.torch import load_file

    keep("cerebellum", network, {}, tmp_path)
    again = Cerebellum()
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(run(again), run(network))
    assert (tmp_path / "weights.safetensors").stat().st_size < 1_000_000
