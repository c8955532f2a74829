"""The world model's network and losses: against the recurrence by hand, and what a phantom must keep to."""

import re
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from nmri3d.errors import InputError
from nmri3d.phantoms.world_model import losses
from nmri3d.phantoms.world_model.corpus import Hierarchy, sample
from nmri3d.phantoms.world_model.flat import flat_model, size_of
from nmri3d.phantoms.world_model.lexicon import OWN, WORDS
from nmri3d.phantoms.world_model.measures import cut
from nmri3d.phantoms.world_model.model import LONGEST_TEXT, Config, WorldModel
from nmri3d.phantoms.world_model.probe import fit_probe

SMALL = Config(width=8, group=4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return WorldModel(SMALL).eval()


@pytest.fixture
def tokens():
    return torch.as_tensor(sample(Hierarchy(), 3, 9, 1).tokens)


def test_the_pass_equals_the_recurrence_by_hand(model, tokens):
    weight = {name: value.detach().double().numpy() for name, value in model.named_parameters()}

    def linear(name, x):
        return weight[f"{name}.weight"] @ x + weight.get(f"{name}.bias", 0)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    h, d = np.zeros((4, 8)), np.zeros((4, 8))
    for token, logits in zip(tokens[1].tolist(), model(tokens)[1], strict=True):
        message = weight["embed.weight"][token]
        for level in range(4):
            if level:
                message = message + np.tanh(linear(f"bottom_up.{level - 1}", np.concatenate([message, h[level - 1]])))
            share = sigmoid(linear(f"clock.{level}", np.concatenate([message, h[level], d[level]])))
            gate = SMALL.least[level] + (1 - SMALL.least[level]) * share
            h[level] += gate * (np.tanh(linear(f"candidate.{level}", message)) - h[level])
        depth = sigmoid(linear("depth", h[0]))
        s = np.tanh(linear("predictor.3", h[3]))
        expected = depth[2] * linear("decoder.3", s)
        for level in (2, 1, 0):
            d[level] = depth[level] * linear(f"top_down.{level}", s)
            s = np.tanh(linear(f"predictor.{level}", h[level]) + d[level])
            expected = expected + (depth[level - 1] if level else 1) * linear(f"decoder.{level}", s)
        np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-5)


def test_clocks_keep_to_their_bounds(model, tokens):
    with torch.no_grad():
        for clock in model.clock:
            clock.weight.mul_(100)
        for gate, least in zip(model.unroll(tokens).gates, SMALL.least, strict=True):
            assert gate.min() == pytest.approx(least, abs=0.02)
            assert gate.max() == pytest.approx(1, abs=0.02)


def test_cutting_no_level_off_gives_the_prediction_itself(model, tokens):
    trace = model.unroll(tokens)
    torch.testing.assert_close(cut(model, trace, 4), trace.logits.log_softmax(-1))
    assert (cut(model, trace, 2) - cut(model, trace, 4)).abs().max() > 1e-3


def test_a_level_that_is_not_active_is_not_heard(model, tokens):
    model.active = 2
    before = model(tokens)
    with torch.no_grad():
        for module in (model.candidate[2], model.predictor[3], model.top_down[1], model.decoder[2]):
            module.weight.add_(1.0)
    torch.testing.assert_close(model(tokens), before)
    model.active = 3
    assert (model(tokens) - before).abs().max() > 1e-4


def test_later_words_do_not_change_what_was_predicted(model, tokens):
    other = tokens.clone()
    other[:, 5:] = (other[:, 5:] + 1) % len(WORDS)
    torch.testing.assert_close(model(tokens)[:, :5], model(other)[:, :5])


def test_gradients_reach_every_parameter(model, tokens):
    model.train()
    losses.total(model, tokens).backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert unreached == []


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, top_down=False), replace(SMALL, learned_clocks=False)])
def test_every_parameter_entry_belongs_to_one_part(config):
    model = WorldModel(config)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter) + 100_000.0 * number)
    entries = torch.cat([value.flatten() for part in model.parts for value in model.weights(part).values()])
    assert len(entries) == len(entries.unique()) == size_of(model)


def test_a_clock_that_is_not_learned_has_no_part():
    kinds = {part.kind for part in WorldModel(replace(SMALL, learned_clocks=False)).parts}
    assert "clock" not in kinds
    assert "clock" in {part.kind for part in WorldModel(SMALL).parts}


def test_each_hook_point_is_called_once_a_token(model, tokens):
    calls = {}

    def count(tensor, hook):
        calls.setdefault(hook.name, []).append(tuple(tensor.shape))

    model.run_with_hooks(tokens, fwd_hooks=[(part.site, count) for part in model.parts if part.column in (None, 0)])
    assert set(calls) == {part.site for part in model.parts}
    for site, shapes in calls.items():
        assert len(shapes) == tokens.shape[1]
        assert len(shapes[0]) == (3 if "latent" in site else 2), site


def test_a_silenced_latent_is_silent_at_the_next_token_too(model, tokens):
    seen = []

    def silence(tensor, hook):
        return torch.zeros_like(tensor)

    model.run_with_hooks(
        tokens, fwd_hooks=[("hook_latent.3", silence), ("hook_expected.3", lambda tensor, hook: seen.append(tensor))]
    )
    alone = torch.tanh(model.predictor[3].bias).expand(3, -1)
    for expected in seen:
        torch.testing.assert_close(expected, alone)


def test_ahead_is_the_mean_of_what_follows():
    values = torch.rand(2, 7, 3)
    for horizon in (1, 3, 20):
        slow = torch.stack([values[:, step : step + horizon].mean(1) for step in range(7)], 1)
        torch.testing.assert_close(losses.ahead(values, horizon), slow)


def test_prediction_is_cross_entropy_of_word_and_horizon(model, tokens):
    trace = model.unroll(tokens[:, :-1])
    bags = model.bags(trace)
    token, _, sentence = losses.prediction(SMALL, trace, bags, tokens)[:3]
    logs = trace.logits.log_softmax(-1)
    by_hand = [-logs[row, step, tokens[row, step + 1]] for row in range(3) for step in range(8)]
    torch.testing.assert_close(token, torch.stack(by_hand).mean())
    ahead = [
        [OWN[1].tolist().index(int(word)) for word in tokens[row, step + 1 : step + 7] if word in OWN[1]]
        for row in range(3)
        for step in range(8)
    ]
    spoken = [tokens[0, step + 1 : step + 7].shape[0] for _ in range(3) for step in range(8)]
    logs = bags[1].flatten(0, 1)
    costs = [sum(-logs[number, word] for word in words) / spoken[number] for number, words in enumerate(ahead)]
    shares = [len(words) / spoken[number] for number, words in enumerate(ahead)]
    torch.testing.assert_close(sentence, sum(costs) / sum(shares))


def test_the_bottleneck_is_the_kl_of_the_messages_but_for_a_constant(model, tokens):
    trace, noise = model.unroll(tokens), SMALL.noise
    rate = sum(kl_divergence(Normal(m, noise), Normal(0.0, 1.0)).sum(-1).mean() for m in trace.messages)
    constant = 3 * 8 * (0.5 * noise**2 - np.log(noise) - 0.5)
    assert losses.bottleneck(SMALL, trace).item() == pytest.approx(rate.item() - constant, rel=1e-4)


def test_stability_is_the_share_that_changes_and_weighs_higher_levels_more(model, tokens):
    trace = model.unroll(tokens)
    shares = []
    for latent in (latent.detach().numpy() for latent in trace.latents):
        shares.append(
            np.square(np.diff(latent, axis=1)).mean((0, 1)).sum() / latent.reshape(-1, 8).var(0, ddof=1).sum()
        )
    assert losses.stability(trace).item() == pytest.approx(sum(np.arange(4) * shares), rel=1e-3)
    noise = torch.randn(64, 40, 8)
    assert losses.stability(replace_latents(trace, [noise] * 4)).item() == pytest.approx(2 * 6, rel=0.02)


def test_flexibility_is_least_for_even_predictions(model, tokens):
    trace = model.unroll(tokens)
    even = [torch.full_like(bag, -np.log(bag.shape[-1])) for bag in model.bags(trace)]
    flat = replace_logits(trace, torch.zeros_like(trace.logits))
    least = -sum(0.5**level * np.log(size) for level, size in enumerate([len(WORDS), *map(len, OWN)]))
    assert losses.flexibility(flat, even).item() == pytest.approx(least, rel=1e-5)
    assert losses.flexibility(trace, model.bags(trace)) > losses.flexibility(flat, even)


def test_separation_is_least_where_levels_hold_different_things(model, tokens):
    trace = model.unroll(tokens)
    different = [torch.randn(100, 40, 8) for _ in range(4)]
    apart, alike = (
        losses.separation(replace_latents(trace, latents)).item() for latents in (different, different[:1] * 4)
    )
    assert alike == pytest.approx(6, rel=0.02)  # six pairs of levels, each unit found again in the other level
    assert apart < 0.05


def test_reach_is_the_variance_of_what_is_said_of_other_levels(model, tokens):
    trace = model.unroll(tokens)
    by_hand = 0.0
    for level in range(4):
        votes = model.decoder[level](trace.expected[level]).detach().numpy()
        by_hand += sum(np.var(votes[..., OWN[other]], axis=-1).mean() for other in range(4) if other != level)
    assert losses.reach(model, trace).item() == pytest.approx(by_hand, rel=1e-4)


def test_contrast_is_low_where_texts_keep_to_themselves(model, tokens):
    trace = model.unroll(tokens)
    apart = torch.eye(3, 8)[:, None].expand(-1, 9, -1)
    same = torch.ones(3, 9, 8)
    own, alike = (losses.contrastive(SMALL, replace_latents(trace, [latent] * 4)) for latent in (apart, same))
    assert float(alike) == pytest.approx(3 * np.log(3), rel=1e-4)
    assert own < 0.1


def test_consistency_is_least_where_levels_agree(model, tokens):
    trace = model.unroll(tokens)
    steady = replace_logits(trace, trace.logits[:, :1].expand_as(trace.logits))
    agreeing = [steady.logits[..., own].log_softmax(-1) for own in OWN]
    assert losses.consistency(SMALL, steady, agreeing) < losses.consistency(SMALL, steady, model.bags(trace))


def replace_logits(trace, logits):
    return type(trace)(logits, trace.latents, trace.expected, trace.messages, trace.gates, trace.depths)


def replace_latents(trace, latents):
    return type(trace)(trace.logits, latents, trace.expected, trace.messages, trace.gates, trace.depths)


def test_a_probe_reads_what_is_linear_and_not_what_is_not_there():
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(2_000, 6, generator=random)
    values = (latents[:, :3] * 3).argmax(1).numpy()
    probe = fit_probe(latents[:1_000], values[:1_000], 3)
    assert (probe(latents[1_000:]) == values[1_000:]).mean() > 0.95
    blind = fit_probe(latents[:1_000, 3:], values[:1_000], 3)
    assert (blind(latents[1_000:, 3:]) == values[1_000:]).mean() < 0.5


def test_the_flat_baseline_is_of_equal_size():
    assert size_of(flat_model(Config())) == pytest.approx(size_of(WorldModel()), rel=0.02)


@lru_cache
def default_model():
    return WorldModel()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40), st.booleans(), st.sampled_from([" ", "  ", "\n"]))
def test_text_of_known_words_is_read_as_written(words, capital, space):
    text = space.join(words)
    for mark in ".¶§":
        text = text.replace(f"{space}{mark}", mark)
    read = default_model().stimulus(text.upper() if capital else text)
    assert [WORDS[token] for token in read.ids] == list(read.labels) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), (" \n", "is empty"), ("in tokyo", "'tokyo'"), ("in " * (LONGEST_TEXT + 1), "at most 512")],
)
def test_what_cannot_be_read_is_refused_in_words(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        default_model().stimulus(text)


def test_examples_and_reference_can_be_read():
    model = default_model()
    assert len(model.reference()) >= 100
    assert len(set(model.reference())) == len(model.reference())
    for text in (*model.reference(), *model.identity.examples):
        assert len(model.stimulus(text)) > 10
