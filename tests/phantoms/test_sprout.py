"""SPROUT's network: exactly k active, what hooks do, whose the weights are, and what the shipped weights reach."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from nmri3d.errors import InputError
from nmri3d.phantoms.calibration import auroc
from nmri3d.phantoms.registry import folder_of, shipped
from nmri3d.phantoms.sprout import training
from nmri3d.phantoms.sprout.baseline import PlainTransformer
from nmri3d.phantoms.sprout.lexicon import TOKEN, VOCABULARY, read
from nmri3d.phantoms.sprout.measures import accuracy, in_batches, last_pattern, number_read, returns, silencing
from nmri3d.phantoms.sprout.model import READINGS, Config, Sprout
from nmri3d.phantoms.sprout.objective import Weights, loss, swap
from nmri3d.phantoms.sprout.population import FLOOR, Selection
from nmri3d.phantoms.sprout.prefixes import padded, training_batches
from nmri3d.phantoms.sprout.prefixes import test_prefixes as held_out_prefixes
from nmri3d.phantoms.sprout.probes import probes, telling_units
from nmri3d.phantoms.sprout.training import (
    ABLATIONS,
    NAMING,
    READ,
    RECIPE,
    Schedule,
    SproutRecipe,
    corpus_of,
    train,
    train_plain,
)
from nmri3d.phantoms.training import Run

SMALL = Config(units=96, active=12, width=16, rounds=2)


@pytest.fixture
def small() -> Sprout:
    torch.manual_seed(0)
    return Sprout(SMALL).eval()


@pytest.fixture(scope="module")
def sprout() -> Sprout:
    return shipped("sprout")  # type: ignore[return-value]


def inputs_of(model: Sprout, text: str) -> torch.Tensor:
    return model.inputs(model.stimulus(text))["tokens"]


def test_a_stimulus_unpacks_to_its_tokens(sprout: Sprout) -> None:
    for text in (*sprout.identity.examples, *sprout.reference()):
        stimulus = sprout.stimulus(text)
        assert len(stimulus) == 6
        assert [VOCABULARY[token] for token in sprout.inputs(stimulus)["tokens"][0]] == read(text)
    assert (sprout.stimulus("now the cat").ids != sprout.stimulus("now the cats").ids).any()


@pytest.mark.parametrize(("text", "says"), [("  ", "no text"), ("the unicorn", "unicorn"), ("the " * 40, "at most 24")])
def test_what_cannot_be_read_is_refused_in_words(sprout: Sprout, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        sprout.stimulus(text)


def test_exactly_k_win_even_where_scores_tie() -> None:
    selection = Selection(units=50, active=7, width=4)
    with torch.no_grad():
        selection.signature.zero_()
        for pattern in (selection(torch.ones(3, 4)), selection.eval()(torch.ones(3, 4))):
            assert (pattern > 0).sum(1).tolist() == [7, 7, 7]
            assert pattern.max().item() == pytest.approx(FLOOR)


def test_padding_changes_nothing(small: Sprout) -> None:
    short, long = ["now", "the", "cat"], ["now", "the", "cat", "+s", "near", "these", "dog"]
    with torch.no_grad():
        together, alone = small(padded([short, long])), small(padded([short]))
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_weights_belong_to_exactly_one_part(sprout: Sprout) -> None:
    """Each entry is marked through the views that the parts hand out; each must be marked once."""
    model = Sprout(sprout.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for part in model.parts:
            for view in model.weights(part).values():
                view += 1
    assert all((parameter == 1).all() for parameter in model.parameters())


def test_gradients_reach_every_parameter() -> None:
    """Row by row. A unit's decoder row is reached where the unit is active, its signature and bias always."""
    torch.manual_seed(0)
    model, random = Sprout().train(), np.random.default_rng(0)
    tokens, following = next(training_batches(random, corpus_of(random, 50), 6))
    loss(model, tokens, following, Weights(rounds=1), torch.Generator().manual_seed(0)).backward()
    used = (torch.stack(model.patterns(tokens)) > 0).any(0).any(0)
    assert not {name for name, parameter in model.named_parameters() if parameter.grad is None}
    for name, parameter in model.named_parameters():
        reached = parameter.grad.abs().reshape(len(parameter), -1).sum(1) > 0
        match name:
            case "encoder.W_E":
                reached = reached[tokens[tokens >= 0].unique()]
            case "encoder.W_pos":
                reached = reached[: tokens.shape[1]]
            case "decoder.W_dense":
                assert used.sum() > 400
                reached = reached[used]
        assert reached.all(), name


def test_nothing_but_the_pattern_is_carried(sprout: Sprout) -> None:
    patterns = sprout.patterns(inputs_of(sprout, "now the cats near this dog"))
    for before, after in pairwise(patterns):
        torch.testing.assert_close(sprout.population.round(before.clone()), after)


def test_hooks_are_called_as_the_parts_say(sprout: Sprout) -> None:
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(tensor: torch.Tensor, hook: object) -> None:
        seen.setdefault(hook.name, []).append(tensor)  # type: ignore[attr-defined]

    sites = {part.site: part for part in sprout.parts}
    sprout.run_with_hooks(inputs_of(sprout, "now the cats"), fwd_hooks=[(site, keep) for site in sites])
    assert {site: len(calls) for site, calls in seen.items()} == {
        site: 1 if part.once else 6 for site, part in sites.items()
    }
    assert set(sites) == set(sprout.hook_dict)
    assert not seen["population.messages.hook_size"][0].any()
    assert seen["population.messages.hook_size"][1].all()


@pytest.mark.parametrize("site", ["population.messages.hook_size", "population.update.hook_size"])
def test_a_size_rescales_what_it_is_the_size_of(sprout: Sprout, site: str) -> None:
    tokens = inputs_of(sprout, "now the cats near this dog")
    clean = sprout(tokens)

    def scaled(factor: float) -> torch.Tensor:
        return sprout.run_with_hooks(tokens, fwd_hooks=[(site, lambda tensor, hook: factor * tensor)])

    torch.testing.assert_close(scaled(1.0), clean)
    assert (scaled(0.0)[:, 0] == clean[:, 0]).all()
    assert (scaled(0.0)[:, 1:] - clean[:, 1:]).abs().max() > 0.01
    module = sprout.get_submodule(site.rsplit(".", 1)[0])
    assert module.hook_size.fwd_hooks == []


def test_a_silenced_message_head_equals_one_without_output_weights(sprout: Sprout) -> None:
    tokens = inputs_of(sprout, "now the cats near this dog")

    def silence(size: torch.Tensor, hook: object) -> torch.Tensor:
        return torch.stack([torch.zeros_like(size[:, 0]), *size[:, 1:].unbind(1)], 1)

    hooked = sprout.run_with_hooks(tokens, fwd_hooks=[("population.messages.hook_size", silence)])
    other = Sprout(sprout.config).eval()
    other.load_state_dict(sprout.state_dict())
    with torch.no_grad():
        other.population.messages.W_O[0] = 0
        torch.testing.assert_close(hooked, other(tokens), rtol=1e-4, atol=1e-4)


def test_a_silenced_unit_is_out_and_an_injected_one_takes_part(sprout: Sprout) -> None:
    tokens = inputs_of(sprout, "now the cats near this dog")
    before = sprout.patterns(tokens)[0]
    active, silent = int(before.argmax()), int((before == 0).flatten().nonzero()[0])
    for unit, value in ((active, 0.0), (silent, 1.0)):
        edited = before.clone()
        edited[0, unit] = value
        assert (sprout.population.round(edited) - sprout.population.round(before)).abs().max() > 0


def test_swapping_keeps_the_count_and_moves_that_many(sprout: Sprout) -> None:
    pattern = sprout.patterns(inputs_of(sprout, "now the cats near this dog"))[-1]
    swapped = swap(pattern, 26, torch.Generator().manual_seed(0))
    assert (swapped > 0).sum() == 128
    assert ((swapped > 0) & (pattern > 0)).sum() == 102
    torch.testing.assert_close(swapped.sort().values, pattern.sort().values)


def test_returning_is_to_ones_own(sprout: Sprout) -> None:
    """A network that sends every pattern to one attractor must fail the measure."""
    prefixes = [text.split() for text in ("now the cat", "then these", "often every dog", "yesterday the")]
    attractors = in_batches(lambda tokens: sprout.patterns(tokens)[-1], prefixes)
    collapsed = Sprout(replace(sprout.config, inertia=0.0)).eval()
    with torch.no_grad():
        collapsed.population.W_field.zero_()
        collapsed.population.selection.bias.copy_(torch.randn(sprout.config.units))
    generator = torch.Generator().manual_seed(0)
    assert returns(collapsed, attractors, attractors, generator)["nearest to its own"] <= 0.5
    assert returns(sprout, attractors, attractors, generator)["nearest to its own"] == 1.0


def test_the_plain_transformer_is_of_equal_size(sprout: Sprout) -> None:
    own, plain = (sum(p.numel() for p in model.parameters()) for model in (sprout, PlainTransformer()))
    assert abs(plain / own - 1) < 0.02


def test_the_shipped_network_reaches_its_figures_on_other_held_out_sentences(sprout: Sprout) -> None:
    """Other sentences than those of metrics.json."""
    prefixes = held_out_prefixes(seed=7, sentences=250)
    logits = in_batches(sprout, [prefix.tokens for prefix in prefixes])
    scores = accuracy(logits[:, -1], prefixes)["combination"]
    kept = json.loads((folder_of("sprout") / "metrics.json").read_text())["figures"]
    assert scores["determined positions"] > 100
    assert scores["determined"] >= 0.95
    assert abs(scores["determined"] - kept["accuracy"]["combination"]["determined"]) < 0.03
    patterns = in_batches(lambda tokens: torch.stack(sprout.patterns(tokens), 1), [p.tokens for p in prefixes[:250]])
    assert ((patterns > 0).sum(-1) == 128).all()


def test_the_answer_key_is_what_the_weights_do(sprout: Sprout) -> None:
    found = probes("unit", NAMING)
    told = telling_units(last_pattern(sprout)(found), found)
    known = sprout.known.numpy().astype(bool)
    assert (known <= told).all()
    for row, (token, other) in enumerate(READINGS.values()):
        assert (sprout.reading(token, other).numpy()[known[row]] >= READ).all()
    key = {truth.name: truth for truth in sprout.answer_key()}
    assert {"plural units", "singular units"} <= set(key)
    unseen = [probe for probe in probes("unseen", 400) if probe.tokens[0] == "now"]
    plural = [int(name.rsplit(".", 1)[1]) for name in key["plural units"].components]
    values = last_pattern(sprout)(unseen)[:, plural].mean(1)
    assert auroc(values, np.array([probe.plural for probe in unseen])) > 0.95
    assert Sprout(SMALL).answer_key() == ()


def test_a_reading_is_what_a_unit_adds_to_the_logits(sprout: Sprout) -> None:
    """Against the decoder itself, unit by unit."""
    with torch.no_grad():
        logits = sprout.decoder(torch.eye(sprout.config.units)) - sprout.decoder(torch.zeros(1, sprout.config.units))
    difference = logits[:, TOKEN["are"]] - logits[:, TOKEN["is"]]
    torch.testing.assert_close(sprout.reading("are", "is"), difference, rtol=1e-4, atol=1e-4)


def test_silencing_the_plural_units_turns_are_into_is_and_random_units_do_not(sprout: Sprout) -> None:
    shares = silencing(sprout, seed=3)
    assert shares["'are' over 'is', as it is"] > 0.95
    assert shares["'are' over 'is', silenced"] < 0.5
    assert shares["'are' over 'is', random units silenced"] > 0.8


def test_number_cannot_be_read_where_there_is_none(sprout: Sprout) -> None:
    random = np.random.default_rng(0)
    assert 0.35 < number_read(lambda found: random.standard_normal((len(found), 50))) < 0.65
    assert number_read(last_pattern(sprout)) >= 0.95


def test_training_repeats_from_its_seed_and_learns() -> None:
    schedule = Schedule(first=3, second=2, first_batch=8, second_batch=4, warm_up=1, corpus=50)
    runs = [
        train(1, lambda share, what: None, config=SMALL, weights=Weights(swapped=3), schedule=schedule)
        for _ in range(2)
    ]
    for one, two in zip(runs[0].state_dict().values(), runs[1].state_dict().values(), strict=True):
        assert torch.equal(one, two)
    said: list[tuple[float, str]] = []
    plain = train_plain(0, lambda share, what: said.append((share, what)), Schedule(first=60, second=0, corpus=300))
    assert said[-1][0] == 1.0
    assert float(said[-1][1].rsplit(" ", 1)[1]) < float(said[0][1].rsplit(" ", 1)[1]) - 0.5
    assert plain(padded([["now", "the"]])).shape == (1, len(TOKEN))


def test_every_ablation_runs_and_is_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps each, of a small network; without rounds there is no change of the pattern, and the table says so."""
    monkeypatch.setattr(training, "TEST_SENTENCES", 25)
    monkeypatch.setattr(training, "NAMING", 60)
    small = {"units": 160, "active": 32, "width": 16}
    ablations = {name: (replace(config, **small), weights) for name, (config, weights) in ABLATIONS.items()}
    monkeypatch.setattr(training, "ABLATIONS", ablations)
    recipe = SproutRecipe(schedule=Schedule(first=1, second=1, first_batch=4, second_batch=4, corpus=40))
    figures = {run: recipe.run(run, lambda share, what: None) for run in recipe.runs() if run.name in ABLATIONS}
    assert len(figures) == len(ABLATIONS)
    json.dumps(list(figures.values()), allow_nan=False)
    changes = {run.name: found["dynamics"]["change in the last round over the first"] for run, found in figures.items()}
    assert changes.pop("without rounds") is None
    assert all(change > 0 for change in changes.values())
    rows = [line for line in recipe.summary(figures).splitlines() if line.startswith("| without rounds")]
    assert [row.split(" | ")[2] for row in rows][1] == "–"
    assert len(rows) == 3


def test_the_study_is_summed_up_by_mean_and_spread_and_names_what_is_missing() -> None:
    def figures(determined: float) -> dict[str, object]:
        split = {"determined": determined, "plain": 0.5, "ideal plain": 0.6}
        return {
            "accuracy": {"combination": split, "word": {"determined": 0.8}},
            "number of nouns never seen in the plural, AUROC": {"last residual": 0.75},
        }

    runs = [run for run in RECIPE.runs() if run.name == "plain transformer"]
    text = RECIPE.summary({runs[0]: figures(0.9), runs[1]: figures(0.98)})
    predicted, read_off = [line for line in text.splitlines() if line.startswith("| plain transformer")]
    assert predicted.rstrip(" |").split(" | ")[1:] == [
        "2",
        "0.9400 ± 0.0566",
        "–",
        "0.5000 ± 0.0000",
        "0.8000 ± 0.0000",
    ]
    assert read_off.rstrip(" |").split(" | ")[1:] == ["2", "0.7500 ± 0.0000", "–", "–"]
    assert "0.6000" in text
    assert runs[2].key in text
    assert runs[0].key not in text


@pytest.mark.parametrize("good", [True, False])
def test_the_summary_says_what_the_figures_do_not_show(good: bool) -> None:
    """Where the rounds help and something is left to be read better, it says nothing of the kind."""
    swapped = {
        "nearest to its own before the rounds": 0.5 if good else 1.0,
        "nearest to its own": 1.0,
        "cosine with its own before the rounds": 0.625,
        "cosine with its own": 0.875,
        "units of its own before the rounds": 102.0,
        "units of its own": 112.5,
    }
    one = {
        "accuracy": {
            "combination": {"determined": 0.96, "plain": 0.5, "ideal plain": 0.6},
            "word": {"determined": 0.8},
        },
        "determined accuracy of held-out combinations by step": [0.9, 0.96] if good else [0.97, 0.96],
        "dynamics": {
            "change in the last round over the first": 0.125,
            "units never active on these prefixes": 2_131,
            "swapped in the attractor": swapped,
        },
        "number of nouns never seen in the plural, AUROC": {
            "activations after the last round": 1.0,
            "activations before the first round": 0.9 if good else 1.0,
            "encoder": 1.0,
        },
    }
    text = RECIPE.summary({Run("sprout", 0): one})
    assert ("do not make the prediction better" in text) == (not good)
    assert ("would pass as well" in text) == (not good)
    assert ("no evidence for the sparse code" in text) == (not good)
    assert "0.6250 | 0.8750 | 102.0000 | 112.5000" in text
    assert "2,131" in text
