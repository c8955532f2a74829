"""BioHama's mechanisms against what their definitions say, each by an independent computation."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from nmri3d import Edit, perturb, scan
from nmri3d.errors import InputError
from nmri3d.phantoms.backend import PhantomBackend
from nmri3d.phantoms.biohama import fewshot, growth, training
from nmri3d.phantoms.biohama.attention import HierarchicalAttention, Past
from nmri3d.phantoms.biohama.baselines import BASELINES, count, matched
from nmri3d.phantoms.biohama.fitting import START, Clipping, Plan, TrainingSet, fit, loss_of
from nmri3d.phantoms.biohama.memory import AdaptiveWorkingMemory
from nmri3d.phantoms.biohama.model import BioHama, Config
from nmri3d.phantoms.biohama.plasticity import Hebbian
from nmri3d.phantoms.biohama.routing import AdaptiveRouter, Router
from nmri3d.phantoms.biohama.training import ABLATIONS
from nmri3d.phantoms.training import seeded


@pytest.fixture
def network() -> BioHama:
    seeded(3)
    return BioHama().eval()


@pytest.fixture(scope="module")
def training_set() -> TrainingSet:
    return TrainingSet(200, np.random.default_rng(0))


def outputs(network: BioHama, text: str) -> torch.Tensor:
    with torch.no_grad():
        return network(**network.inputs(network.stimulus(text)))[0]


# -- the network ---------------------------------------------------------------------------------------------------------


def test_gradients_reach_every_parameter(network, training_set):
    loss_of(network, training_set.draw(60, 1.0)).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent, f"no gradient reaches {silent}"


@pytest.mark.parametrize("changes", ABLATIONS.values(), ids=ABLATIONS)
def test_every_ablation_changes_what_the_network_computes(changes):
    def logits(config: Config) -> torch.Tensor:
        network = BioHama(config).eval()
        for name, parameter in network.named_parameters():  # equal names, equal weights
            torch.nn.init.normal_(
                parameter, std=0.3, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))
            )
        return outputs(network, "visit a d b, lift, visit c a, at c, hop, hop, back, put a b c, reverse, red, see a b")

    assert not torch.allclose(logits(Config()), logits(Config(**changes)), atol=1e-5)


def test_weights_are_partitioned_exactly(network):
    entries = {name: torch.zeros_like(p, dtype=torch.int64) for name, p in network.named_parameters()}
    names = {p.untyped_storage().data_ptr(): name for name, p in network.named_parameters()}
    assert len(names) == len(entries)
    for part in network.parts:
        for weight in network.weights(part).values():
            name = names[weight.untyped_storage().data_ptr()]
            taken = torch.as_strided(entries[name], weight.shape, weight.stride(), weight.storage_offset())
            taken += 1
    assert all(bool((taken == 1).all()) for taken in entries.values())


def test_a_step_sees_nothing_of_the_steps_after_it(network):
    long, short = outputs(network, "put a b c d, turn, swap, reverse"), outputs(network, "put a b c d, turn")
    torch.testing.assert_close(long[:5], short)


def test_programs_in_a_batch_do_not_touch_each_other(network, training_set):
    data = training_set.draw(6, 1.0)
    operations, symbols = torch.from_numpy(data.operations), torch.from_numpy(data.symbols)
    with torch.no_grad():
        together = network(operations, symbols)
        alone = torch.cat([network(operations[i : i + 1], symbols[i : i + 1]) for i in range(len(data))])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_the_backend_opens_it_and_every_example_runs(network):
    backend = PhantomBackend(network)
    assert backend.info.n_params == sum(p.numel() for p in network.parameters())
    for text in (*network.identity.examples, *network.reference()):
        assert len(network.stimulus(text)) > 0
    assert len(set(network.reference())) >= 100
    assert backend.components.ids[backend.components.rows(kind="module")[0]] == "module.4.0"


def test_the_router_lets_exactly_two_modules_through(network):
    _, cache = network.run_with_cache(**network.inputs(network.stimulus("put a b, red, see c")))
    gates = cache["router.hook_gates"]  # of the last step
    assert (gates > 0).sum() == network.config.active
    torch.testing.assert_close(gates.sum(), torch.tensor(1.0))


def test_the_router_lets_no_more_through_where_modules_are_equal():
    router = Router(4, 5, 2, routed=True)
    torch.nn.init.zeros_(router.out.weight)
    torch.nn.init.zeros_(router.out.bias)
    gates, probabilities = router(torch.randn(3, 4), torch.randn(3, 4))
    torch.testing.assert_close(probabilities, torch.full((3, 5), 0.2))
    assert (gates == 0.5).sum(dim=1).tolist() == [2, 2, 2]


@pytest.mark.parametrize("routed", [True, False])
def test_an_edit_of_a_gate_changes_the_answer(routed):
    seeded(3)
    backend = PhantomBackend(BioHama(Config(routed=routed)).eval())
    text = "put c a, reverse, turn"
    gates = scan(backend, "fMRI", text).values[-1, backend.components.rows(kind="gate")]
    if not routed:
        np.testing.assert_allclose(gates, 1 / 12, rtol=1e-6)
    found = perturb(backend, text, Edit(f"gate.3.{int(gates.argmax())}", "zero"))
    assert found.logit_after != pytest.approx(found.logit_before, abs=1e-5)


# -- its mechanisms ------------------------------------------------------------------------------------------------------


def test_free_slots_are_handed_out_in_order_and_then_the_least_important():
    memory = AdaptiveWorkingMemory(4, 8, 0)
    step = torch.zeros(1, 8)
    for usage, first in (([0.0, 0, 0, 0], [1.0, 0, 0, 0]), ([1.0, 1, 0, 0], [0.0, 0, 1, 0])):
        torch.testing.assert_close(
            memory.allocate(step, torch.tensor([usage])), torch.tensor([first]), atol=1e-5, rtol=0
        )
    usage = torch.tensor([[0.9, 0.95, 0.6, 0.99]])
    assert memory.allocate(step, usage).sum().item() == pytest.approx(1.0)
    least = memory.allocate(step, torch.tensor([[1.0, 1.0, 0.8, 1.0]]))[0]
    assert least.argmax() == 2
    assert least[2] > 3 * least[0]


@pytest.mark.parametrize("usage", [1.0, 0.8, 0.0])
def test_a_sharp_allocation_stays_finite_and_sums_to_one(usage):
    memory = AdaptiveWorkingMemory(5, 8, 0)
    with torch.no_grad():
        memory.choosing.fill_(6.0)
    full = torch.full((1, 5), usage, requires_grad=True)
    chosen = memory.allocate(torch.zeros(1, 8), full)
    assert chosen.sum().item() == pytest.approx(1.0)
    chosen[0, 1].backward()
    assert full.grad.isfinite().all()
    assert memory.choosing.grad.isfinite()


def test_training_that_diverges_is_said_to():
    random, _ = seeded(0)
    network = BioHama(Config(width=8, hidden=8, bindings=4, modules=3))
    with torch.no_grad():
        network.readout.out.bias.fill_(torch.nan)
    with pytest.raises(InputError, match="diverged at update 0 of 3"):
        fit(network, Plan(updates=3, programs=12, drawn=20), random, lambda share, what: None)


def test_an_unimportant_write_takes_no_slot():
    memory = AdaptiveWorkingMemory(3, 4, 0)
    with torch.no_grad():
        memory.importance.weight.zero_()
        memory.importance.bias.fill_(-50.0)
    slots, usage = memory.fresh(1)
    _, after = memory.write(slots, usage, torch.zeros_like(slots), torch.ones(1, 3), torch.zeros(1, 4))
    assert after.abs().max() < 1e-6
    with torch.no_grad():
        memory.importance.bias.fill_(50.0)
    _, after = memory.write(slots, usage, torch.zeros_like(slots), torch.tensor([[1.0, 0, 0.5]]), torch.zeros(1, 4))
    torch.testing.assert_close(after, torch.tensor([[1.0, 0, 0.5]]))


def test_hebbian_weights_bind_what_follows_to_what_was_before_and_not_the_other_way():
    seeded(1)
    hebbian = Hebbian(6, 2, 5, enabled=True, stdp=True, consolidation=False)
    with torch.no_grad():
        hebbian.gates.weight.zero_()
        hebbian.gates.bias.copy_(torch.tensor([50.0, -50.0, 50.0]))  # plastic; the trace holds the last step alone
    first, second = torch.randn(2, 1, 6)
    synapses = hebbian.learn(second, hebbian.learn(first, hebbian.fresh(1)))

    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    code = hebbian.code.weight.detach().numpy()
    plus, minus = np.log1p(np.exp(hebbian.gains.detach().numpy()))
    a, b = first[0].numpy(), second[0].numpy()
    forward = np.outer(unit(code @ b), unit(code @ a))
    expected = plus * forward - minus * forward.T
    np.testing.assert_allclose(synapses.fast[0].detach().numpy(), expected, atol=1e-5)


def test_strong_synapses_are_consolidated_and_weak_ones_fade():
    hebbian = Hebbian(4, 2, 3, enabled=True, stdp=True, consolidation=True)
    with torch.no_grad():
        hebbian.gates.weight.zero_()
        hebbian.gates.bias.fill_(-50.0)  # nothing new is bound
        hebbian.keep.fill_(50.0)
        hebbian.threshold.fill_(0.5)
    fresh = hebbian.fresh(1)
    fast, kept = torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)
    fast[0, 0, 0], fast[0, 1, 1] = 1.0, -1.0  # strong
    kept[0, 2, 2] = 1.0  # of a synapse that is weak now
    after = hebbian.learn(torch.randn(1, 4), fresh._replace(fast=fast, long_term=kept)).long_term[0]
    rate = 1 / (1 + np.exp(2.0))
    np.testing.assert_allclose(after[0, 0].item(), rate, rtol=1e-3)
    np.testing.assert_allclose(after[1, 1].item(), -rate, rtol=1e-3)
    np.testing.assert_allclose(after[2, 2].item(), 1 - rate, rtol=1e-3)


def test_global_attention_keeps_the_best_keys_and_local_attention_the_last():
    seeded(2)
    attention = HierarchicalAttention(8, window=2, sparse=3, levels=("local", "module", "global"))
    steps, states = torch.randn(7, 1, 8), torch.randn(1, 5, 8)
    past = Past()
    seen = []
    attention.hook_levels.add_hook(lambda levels, hook: seen.append(levels.detach().numpy()[0]) or levels)
    for step in steps:
        attention(step, states, past)

    def expected(name: str, chosen: np.ndarray, keep: int) -> np.ndarray:
        level = attention.level(name)
        query, key, value = (getattr(level, each).weight.detach().numpy() for each in ("query", "key", "value"))
        vectors = steps[:, 0].numpy()
        slope = np.log1p(np.exp(level.slope.item()))
        scores = (vectors[chosen] @ key.T) @ (query @ vectors[-1]) / np.sqrt(8) - slope * (6 - chosen)
        best = np.argsort(-scores)[:keep]
        weights = np.exp(scores[best]) / np.exp(scores[best]).sum()
        return weights @ (vectors[chosen][best] @ value.T)

    np.testing.assert_allclose(seen[-1][0], expected("local", np.array([5, 6]), 2), atol=1e-5)
    np.testing.assert_allclose(seen[-1][2], expected("global", np.arange(7), 3), atol=1e-5)


def test_the_adaptive_router_weighs_what_it_tried_and_goes_downhill_from_there():
    seeded(0)
    router = AdaptiveRouter(4, 3, 2, routed=True)
    known, target = torch.randn(5, 4), torch.tensor([1.0, -2.0, 0.5, 0.0])

    def losses(vectors: torch.Tensor) -> torch.Tensor:
        return ((vectors - target) ** 2).sum(dim=1)

    gain, rates = torch.tensor([0.7], requires_grad=True), torch.full((2,), 0.1, requires_grad=True)
    found = router.adapted(known, losses, (gain, rates))
    shares = np.exp(-0.7 * losses(known).numpy())
    guess = (shares / shares.sum()) @ known.numpy()
    np.testing.assert_allclose(found.detach().numpy(), target.numpy() + 0.8**2 * (guess - target.numpy()), atol=1e-5)
    losses(found[None]).sum().backward()
    assert (rates.grad < 0).all()  # larger steps would have gone further
    assert gain.grad is not None


def test_adaptation_touches_no_weight_and_acts_on_the_unknown_word_alone(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    vector = fewshot.adapt(network, fewshot.episode("turn", 4, "training", np.random.default_rng(0)))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    known = fewshot.batch([(("put", "a"), ("turn", None))])
    unknown = fewshot.batch([(("put", "a"), ("zig", None))])
    own = network.words[fewshot.OPERATIONS.index("zig")]
    with torch.no_grad():
        for data, changes in ((known, False), (unknown, True)):
            one, other = fewshot.logits_with(network, data, torch.stack([vector, own]))
            assert torch.allclose(one, other, atol=1e-5) != changes
        turned = fewshot.logits_with(network, unknown, network.words[None, fewshot.OPERATIONS.index("turn")])
        torch.testing.assert_close(turned[0], network(*map(torch.from_numpy, (known.operations, known.symbols))))


def test_few_shot_losses_are_those_of_each_vector_alone(network):
    data = fewshot.episode("hop", 3, "training", np.random.default_rng(1))
    with torch.no_grad():
        together = fewshot._losses(fewshot.logits_with(network, data, network.words[:3]), data)
        for number in range(3):
            logits = fewshot.logits_with(network, data, network.words[number : number + 1])[0]
            right = torch.from_numpy(data.answers)
            alone = -logits.log_softmax(dim=2).gather(2, right.clamp(min=0)[..., None])[..., 0][right >= 0].mean()
            torch.testing.assert_close(together[number], alone)


def test_the_new_operation_takes_the_place_of_shift_and_means_the_opposite_symbol():
    data = fewshot.episode(fewshot.NEW, 20, "in-dist", np.random.default_rng(0))
    for operations, symbols, answers in zip(data.operations, data.symbols, data.answers, strict=True):
        words = [fewshot.OPERATIONS[operation] for operation in operations]
        assert "shift" not in words
        assert "zig" in words
        listed: list[int] = []
        for word, symbol, answer in zip(words, symbols, answers, strict=True):
            match word:
                case "put":
                    listed.append(symbol)
                case "zig":
                    listed = [9 - each for each in listed]
                case "reverse":
                    listed = listed[::-1]
                case "turn":
                    listed = [*listed[1:], listed[0]]
                case "swap":
                    listed[:2] = listed[1::-1]
            assert answer == (listed[0] if word not in ("put", "wait") else -1)


def test_the_best_known_word_is_the_one_of_least_loss_and_may_be_left_out(network):
    data = fewshot.episode("back", 5, "training", np.random.default_rng(2))
    losses = {}
    with torch.no_grad():
        for name in ("reverse", "turn", "swap", "shift", "hop", "back"):
            vector = network.words[None, fewshot.OPERATIONS.index(name)]
            losses[name] = fewshot._losses(fewshot.logits_with(network, data, vector), data).item()
    ranked = sorted(losses, key=losses.__getitem__)
    for without, expected in ((None, ranked[0]), (ranked[0], ranked[1]), (ranked[1], ranked[0])):
        found = fewshot.best_known(network, data, without)
        assert torch.equal(found, network.words[fewshot.OPERATIONS.index(expected)])
    assert not torch.allclose(fewshot.adapt(network, data), fewshot.adapt(network, data, without=ranked[0]))


# -- modules that come and go --------------------------------------------------------------------------------------------


def test_the_order_of_the_modules_means_nothing(network):
    shuffled = growth._listed(network, [3, 1, 7, 0, 2, 6, 5, 4, 11, 10, 8, 9])
    text = "visit a d b, lift, visit c a, at c, hop, back"
    torch.testing.assert_close(outputs(shuffled, text), outputs(network, text), atol=1e-4, rtol=1e-4)


def test_adding_and_removing_a_module_leaves_the_given_network_as_it_is(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    grown = growth.with_module(network, source=2)
    assert grown.config.modules == 13
    assert sum(part.kind == "module" for part in grown.parts) == 13
    back = growth.without_module(grown, 12)
    halved = ("messages.listens", "router.out.bias")
    assert all(torch.equal(before[name], value) for name, value in back.state_dict().items() if name not in halved)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with pytest.raises(InputError, match="active"):
        growth.without_module(BioHama(Config(modules=2)), 0)


def test_a_copy_halves_what_its_source_was_given_and_takes_nothing_from_the_others(network):
    grown = growth.with_module(network, source=2)
    step, context = torch.randn(2, 6, 32)
    with torch.no_grad():
        before, after = network.router(step, context)[1], grown.router(step, context)[1]
        torch.testing.assert_close(after[:, [2, 12]], before[:, [2, 2]] / 2)
        others = [module for module in range(12) if module != 2]
        torch.testing.assert_close(after[:, others], before[:, others])
        nodes = torch.randn(6, 12, 32)
        heard = grown.messages(nodes[:, [*range(12), 2]])
        torch.testing.assert_close(heard[:, :12], network.messages(nodes), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(heard[:, 12], heard[:, 2])


def test_a_changed_network_claims_no_answer_key(network):
    network.lesions.fill_(1.0)
    network.own.fill_(1.0)
    assert network.answer_key()
    for changed in (growth.with_module(network, 2), growth.without_module(network, 3)):
        assert changed.answer_key() == ()
    growth.specialize(network, 0, "shift", 1, np.random.default_rng(0), lambda share, what: None)
    assert network.answer_key() == ()


def test_specializing_changes_one_module_its_gate_and_the_word(network):
    with torch.no_grad():
        network.router.out.bias[2] += 5  # so that the router opens it, and its copy
    grown = growth.with_module(network, source=2)
    before = {name: value.clone() for name, value in grown.state_dict().items()}
    growth.specialize(grown, 12, "shift", 3, np.random.default_rng(0), lambda share, what: None)
    changed = {name for name, value in grown.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {f"pool.{n}" for n, _ in grown.pool.named_parameters()} | {
        "router.out.weight",
        "router.out.bias",
        "encoder.modes.sequence.operation.weight",
    }
    assert torch.equal(grown.pool.slot_in[:12], before["pool.slot_in"][:12])
    assert not torch.equal(grown.pool.slot_in[12], before["pool.slot_in"][12])


# -- training ------------------------------------------------------------------------------------------------------------


def test_a_module_whose_gradient_explodes_is_cut_and_the_others_are_not():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    clip = Clipping(network)

    def gradients(first: float, second: float) -> None:
        for layer, size in zip(network, (first, second), strict=True):
            for parameter in layer.parameters():
                parameter.grad = torch.full_like(parameter, size)

    for _ in range(5):
        gradients(1.0, 1.0)
        assert clip() == 0
    gradients(1000.0, 1.5)
    assert clip() == 0.5
    norms = [torch.cat([p.grad.flatten() for p in layer.parameters()]).norm().item() for layer in network]
    assert norms[0] == pytest.approx(2 * 6**0.5, rel=1e-3)  # twice its usual norm
    assert norms[1] == pytest.approx(1.5 * 6**0.5, rel=1e-3)


def test_the_curriculum_starts_with_shorter_programs(training_set):
    assert set(training_set.draw(60, 0.0).lengths) == {1}
    assert set(training_set.draw(300, START).lengths) == {1, 2, 3}
    assert set(training_set.draw(300, 1.0).lengths) == {1, 2, 3, 4, 5}


def test_training_repeats_from_its_seed():
    def trained(seed: int) -> dict[str, torch.Tensor]:
        random, _ = seeded(seed)
        network = BioHama(Config(width=8, hidden=8, bindings=4, modules=3))
        fit(network, Plan(updates=3, programs=12, drawn=20), random, lambda share, what: None)
        return network.state_dict()

    one, same, other = trained(4), trained(4), trained(5)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["readout.out.weight"], other["readout.out.weight"])


def test_training_fits_a_few_programs(training_set):
    seeded(0)
    network = BioHama(Config(width=16, hidden=8, bindings=8, modules=3))
    data = training_set.draw(6, 0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = loss_of(network, data, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_have_as_many_parameters(name, training_set):
    wanted = count(BioHama())
    baseline = matched(name, wanted)
    assert abs(count(baseline) - wanted) <= 0.02 * wanted
    data = training_set.draw(6, 1.0)
    operations, symbols = torch.from_numpy(data.operations), torch.from_numpy(data.symbols)
    with torch.no_grad():
        whole, cut = baseline(operations, symbols), baseline(operations[:, :4], symbols[:, :4])
    torch.testing.assert_close(whole[:, :4], cut, atol=1e-5, rtol=1e-4)  # causal


# -- configuration -------------------------------------------------------------------------------------------------------


def test_the_configuration_goes_through_yaml(tmp_path):
    config = Config(modules=5, levels=("global",), stdp=False)
    config.to_yaml(tmp_path / "config.yaml")
    assert Config.from_yaml(tmp_path / "config.yaml") == config
    (tmp_path / "part.yaml").write_text("modules: 4\n")
    assert Config.from_yaml(tmp_path / "part.yaml") == Config(modules=4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("moduls: 4", "moduls"),
        ("[1, 2]", "no settings"),
        ("a: [", "YAML"),
        ("modules: 1", "lower"),
        ("width: 0", "width"),
        ("hops: -1", "hops"),
        ("prototypes: two", "prototypes"),
        ("routed: 'no'", "true or false"),
        ("levels: 3", "list"),
        ("levels: [far]", "far"),
        ("levels: [[local]]", "local"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_words(tmp_path, text, says):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        Config.from_yaml(tmp_path / "config.yaml")


def test_the_recipe_ships_the_configuration_of_a_file(tmp_path, monkeypatch):
    seen = []

    def stopped(config, *others):
        seen.append(config)
        raise InterruptedError

    monkeypatch.setattr(training, "_trained", stopped)
    config = Config(modules=5, hebbian=False)
    config.to_yaml(tmp_path / "config.yaml")
    for recipe in (training.RECIPE.configured(tmp_path / "config.yaml"), training.RECIPE):
        with pytest.raises(InterruptedError):
            recipe.ship(0, lambda share, what: None)
    assert seen == [config, Config()]


def test_no_module_is_removed_where_all_must_be_active(monkeypatch):
    monkeypatch.setattr(growth, "specialize", lambda *others: None)
    network = BioHama(Config(width=8, hidden=8, bindings=4, modules=2)).eval()
    found = training._growth(network, np.zeros((9, 2)), np.zeros((9, 2)), 0, lambda share, what: None)
    assert found["in-dist without it"] is None
    assert found["known composition before"] is not None


def test_an_unknown_mode_is_refused(network):
    with pytest.raises(InputError, match="graph"):
        network.encoder("graph", torch.zeros(1, 1))


def test_the_module_that_is_removed_is_the_one_that_is_missed_least(monkeypatch):
    monkeypatch.setattr(growth, "specialize", lambda *others: None)
    network = BioHama(Config(width=8, hidden=8, bindings=4, modules=4)).eval()
    lesions, own = np.full((2, 9, 4), 0.5)
    lesions[:, 2] = 0.1
    own[:, 3] = 0.0
    assert training._growth(network, lesions, own, 0, lambda share, what: None)["least needed module"] == 2
