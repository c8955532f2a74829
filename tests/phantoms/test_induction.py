"""The induction network, its words and its task."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.errors import InputError
from nmri3d.phantoms.induction import measuring
from nmri3d.phantoms.induction.measuring import accuracy, held_out_texts, measure, name_heads
from nmri3d.phantoms.induction.model import Config, Induction
from nmri3d.phantoms.induction.task import HELD_OUT, START, WORDS, held_out_lags, texts, trained_lags
from nmri3d.phantoms.induction.training import InductionRecipe, Plan, train
from nmri3d.phantoms.induction.vocabulary import Tokenizer, label, read_words
from nmri3d.phantoms.training import Run
from tests.phantoms.induction_doubles import CLEAN, Double, noisy_backend

SMALL = Config(n_heads=4, d_model=16, d_head=6, n_context=40)


@given(seed=st.integers(0, 2**31), steps=st.integers(10, 104), longest=st.integers(4, 50))
def test_texts_repeat_after_their_lag_and_nowhere_else(seed, steps, longest):
    lags = np.arange(4, longest + 1)
    found = texts(np.random.default_rng(seed), 4, steps, lags, max(longest, 8))
    assert found.ids.shape == (4, steps)
    assert (found.ids[:, 0] == 0).all()
    for ids, first, lag, second in zip(found.ids[:, 1:], found.first, found.lag, found.second_copy[:, 1:], strict=True):
        assert lag in lags
        assert lag <= first <= max(longest, 8)
        assert len(set(ids[:first])) == len(ids[:first])
        assert (ids > 0).all()
        assert all(ids[place] == ids[place - lag] for place in range(first, len(ids)))
        places = np.flatnonzero(second)
        assert places.tolist() == [p for p in range(len(ids)) if first < p < first + lag]
        for place in places:  # the word before was there once before, and the answer followed it
            earlier = np.flatnonzero(ids[: place - 1] == ids[place - 1])
            assert len(earlier) == 1
            assert ids[earlier[0] + 1] == ids[place]


def test_held_out_lags_are_never_trained():
    assert not set(trained_lags()) & set(held_out_lags())
    assert all(lag % HELD_OUT == 0 for lag in held_out_lags())
    assert len(held_out_lags()) == 10
    drawn = texts(np.random.default_rng(0), 2_000, 104, trained_lags()).lag
    assert set(drawn) == set(trained_lags())


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=20), st.booleans(), st.sampled_from([" ", "  ", "\n", "\t"])
)
def test_words_are_read_back_as_they_are_shown(words, upper, gap):
    ids = read_words(gap.join(word.upper() if upper else word for word in words))
    assert ids[0] == 0
    assert [label(token) for token in ids] == [START, *(f" {word}" for word in words)]
    assert Tokenizer().decode(ids[1:]).split() == words


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        ids = read_words(text)
    except InputError as error:
        assert "word" in str(error)
        assert any(word.lower() not in WORDS for word in text.split()) or not text.split()
    else:
        assert [label(token).strip() for token in ids[1:]] == text.lower().split()


def test_what_cannot_be_read_is_named():
    network = Induction(SMALL)
    with pytest.raises(InputError, match=r"does not know 'cathedral'.* ant, ape.* wolf"):
        network.stimulus("cat cathedral cat")
    with pytest.raises(InputError, match="no word"):
        network.stimulus("  ")
    with pytest.raises(InputError, match="got int"):
        network.stimulus(5)
    with pytest.raises(InputError, match=r"41 tokens .* at most 40"):
        network.stimulus("cat " * 40)
    assert len(network.stimulus("cat " * 39)) == 40


def test_the_forward_pass_equals_the_same_by_hand():
    network = noisy_backend().network
    ids = torch.from_numpy(network.stimulus(CLEAN).ids)
    by_hand = Double(network).run(ids)["logits"]
    both = network(torch.stack([ids, ids.flip(0)]))
    assert torch.allclose(both[0].double(), by_hand, atol=1e-4 * float(by_hand.abs().max()))
    assert not torch.allclose(both[0], both[1], atol=0.1)


def test_no_step_sees_a_later_one():
    network = noisy_backend().network
    ids = torch.from_numpy(network.stimulus(CLEAN).ids)[None]
    changed = ids.clone()
    changed[0, 6:] = 7
    one, other = network(ids)[0], network(changed)[0]
    assert torch.equal(one[:6], other[:6])
    assert not torch.equal(one[6:], other[6:])


def test_hook_points_have_the_names_of_transformer_lens():
    names = set(Induction(SMALL).hook_dict)
    assert {"hook_embed", "hook_pos_embed", "blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"} <= names
    assert {f"blocks.1.attn.hook_{name}" for name in ("q", "k", "v", "z", "pattern", "attn_scores")} <= names


def test_the_trainer_lowers_the_loss_and_reaches_every_parameter(monkeypatch):
    from nmri3d.phantoms.induction import training

    monkeypatch.setattr(training, "SHORT", Plan(steps=75, batch=16, length=16, most_first=8))
    monkeypatch.setattr(training, "LONG", Plan(steps=25, batch=16, length=16, most_first=8))
    monkeypatch.setattr(training, "PRICED_STEPS", 3)
    monkeypatch.setattr(training, "LEARNING_RATE", 1e-2)
    torch.manual_seed(0)
    network = Induction(Config(n_heads=4, d_model=32, d_head=8, n_context=16))
    before = {name: value.clone() for name, value in network.named_parameters()}
    seen = []
    train(network, np.random.default_rng(0), lambda share, words: seen.append((share, words)), fixed_lag=4)
    unmoved = [name for name, value in network.named_parameters() if torch.equal(value, before[name])]
    assert not unmoved
    losses = [float(words.rsplit(" ", 1)[1]) for _, words in seen]
    assert losses[-1] < losses[0] - 0.1
    assert all(0 <= share <= 1 for share, _ in seen)


def test_training_repeats_itself_from_its_seed(monkeypatch):
    from nmri3d.phantoms.induction import training

    monkeypatch.setattr(training, "SHORT", Plan(steps=3, batch=4, length=24, most_first=10))
    monkeypatch.setattr(training, "LONG", Plan(steps=2, batch=4, length=30, most_first=20))
    monkeypatch.setattr("nmri3d.phantoms.induction.measuring.TEST_TEXTS", 4)
    networks = [InductionRecipe().ship(seed, lambda share, words: None) for seed in (4, 4, 5)]
    states = [network.state_dict() for network, _ in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["embed.weight"], states[2]["embed.weight"])
    assert networks[0][1] == networks[1][1]


def test_an_untrained_network_knows_nothing(monkeypatch):
    monkeypatch.setattr("nmri3d.phantoms.induction.measuring.TEST_TEXTS", 16)
    torch.manual_seed(1)
    network = Induction().eval()
    name_heads(network)
    figures = measure(network)
    assert figures["accuracy"] < 0.1
    assert figures["previous-token heads"] == figures["induction heads"] == []
    assert figures["without the circuit"] is None
    assert network.answer_key() == []


@pytest.mark.parametrize(
    ("shares", "borne_out"),
    [
        ((0.95, 0.02, 0.94, 0.95, 0.01, 0.95), {"key composition", "induction circuit"}),
        ((0.95, 0.60, 0.94, 0.95, 0.01, 0.95), {"induction circuit"}),  # keys are not what it reads
        ((0.95, 0.02, 0.30, 0.95, 0.01, 0.95), {"induction circuit"}),  # queries are as well
        ((0.95, 0.02, 0.94, 0.95, 0.50, 0.95), {"key composition"}),  # others do the work too
        ((0.95, 0.02, 0.94, 0.95, 0.01, 0.40), {"key composition"}),  # others are needed
        ((0.04, 0.00, 0.04, 0.04, 0.00, 0.04), set()),  # it cannot do the task
    ],
)
def test_the_answer_key_says_only_what_the_figures_bear_out(shares, borne_out):
    network = Induction()
    network.previous_token_heads[0, 3] = network.induction_heads[1, 2] = True
    network.accuracies.copy_(torch.tensor(shares))
    key = {truth.name: truth for truth in network.answer_key()}
    assert set(key) == {"previous-token heads", "induction heads"} | borne_out
    assert all(truth.components for truth in key.values())
    for name in borne_out:
        assert key[name].components == ("blocks.0.attn.head_3", "blocks.1.attn.head_2")
        assert f"of {shares[0]:.3f}" in key[name].statement


def test_heads_are_named_on_other_texts_than_the_figures_are_taken_on(monkeypatch):
    asked = []
    drawn = measuring.texts

    def texts_of(random, *sizes):
        asked.append(random.bit_generator.seed_seq.entropy)
        return drawn(random, *sizes)

    monkeypatch.setattr(measuring, "TEST_TEXTS", 4)
    monkeypatch.setattr(measuring, "texts", texts_of)
    network = Induction().eval()
    name_heads(network)
    assert set(asked) == {measuring.DEVELOPMENT_SEED}
    asked.clear()
    measure(network)
    assert set(asked) == {measuring.TEST_SEED}
    assert measuring.TEST_SEED != measuring.DEVELOPMENT_SEED


def test_silencing_is_the_mean_over_the_texts(monkeypatch):
    """Against the same by hand: head 0 of block 1 writes its mean z."""
    monkeypatch.setattr("nmri3d.phantoms.induction.measuring.TEST_TEXTS", 16)
    network = noisy_backend().network
    of = held_out_texts(network, lags=trained_lags(), seed=9)
    kept = {}
    name = "blocks.1.attn.hook_z"
    network.run_with_hooks(
        torch.from_numpy(of.ids), fwd_hooks=[(name, lambda z, hook: kept.update(mean=z.mean((0, 1))))]
    )

    def silence(z, hook):
        z[:, :, 0] = kept["mean"][0]
        return z

    logits = network.run_with_hooks(torch.from_numpy(of.ids), fwd_hooks=[(name, silence)])
    right = logits.argmax(-1)[:, :-1].numpy() == of.ids[:, 1:]
    assert accuracy(network, of, [(1, 0)]) == right[of.second_copy[:, 1:]].mean()


def test_the_summary_says_what_is_missing():
    recipe = InductionRecipe()
    figures = {
        "parameters": 10, "accuracy": 0.5, "accuracy on lags never trained": 0.25, "chance": 0.1,
        "previous-token heads": [[0, 3]], "induction heads": [],
        "without previous-token heads": 0.2, "without induction heads": None, "without the circuit": 0.1,
        "without previous-token heads in the induction heads' keys": 0.1,
        "without previous-token heads in the induction heads' queries": 0.9,
        "without previous-token heads in the induction heads' values": 0.9,
        "without all other heads": 0.4, "without as many other heads": 0.3, "without the head missed most": 0.2,
    }  # fmt: skip
    text = recipe.summary({Run("induction", 0): figures, Run("induction", 1): {**figures, "accuracy": 0.7}})
    assert "| induction | 10 | 2 of 3 | 0.600 ± 0.141 | 0.250 ± 0.000 |" in text
    assert "| one layer | – | 0 of 3 |" in text
    assert "| induction heads | – |" in text
    assert "| 0 | 0.3 | none |" in text
    assert len(recipe.runs()) == 9
