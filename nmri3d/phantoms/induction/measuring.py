"""What the trainer measures of an induction network on held-out texts, by its own hook points and without any scan.

Convention. Two sets of held-out texts: new ones of trained lags, and ones of lags that training never used. Both are drawn
twice, from two seeds: the texts of DEVELOPMENT_SEED name the heads and fill the answer key, and the network's sizes and
training were chosen on them; those of TEST_SEED are for the figures and decide nothing. Accuracy is the share of the second
copy's determined words that come first by logit; the ideal is 1, chance 1 in the number of words.
Attention scores of a head are mean weights: `previous` to the token before, over all words; `induction` to the word behind
the earlier copy of the present one, over the second copy. A head is named by them: previous-token heads are those of any
block but the last whose `previous`, induction heads those behind the first block whose `induction` is at least NAMED times
that of a head that looks at all steps alike. Silenced heads write their mean over all texts and steps.

Left out: what the weights compute (the scans show it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformer_lens.hook_points import HookPoint

from nmri3d.phantoms.induction.model import SILENCED, Induction
from nmri3d.phantoms.induction.task import WORDS, Texts, held_out_lags, texts, trained_lags
from nmri3d.phantoms.training import Figures

DEVELOPMENT_SEED, TEST_SEED, TEST_TEXTS = 1_000_003, 2_000_003, 100
NAMED = 4.0
RANDOM_SETS = 10

Heads = Sequence[tuple[int, int]]
"""Layer and index of each."""

Hook = Callable[..., Any]


def held_out_texts(network: Induction, *, lags: np.ndarray, seed: int = TEST_SEED) -> Texts:
    """Texts of the whole context that no training has seen."""
    return texts(np.random.default_rng(seed), TEST_TEXTS, network.config.n_context, lags)


def accuracy(network: Induction, of: Texts, silenced: Heads = ()) -> float:
    """Share of the second copy's determined words that come first."""
    hooks = _silencing(network, silenced, of) if silenced else []
    with torch.no_grad():
        return _share_right(of, network.run_with_hooks(torch.from_numpy(of.ids), fwd_hooks=hooks))


def accuracy_unread(network: Induction, of: Texts, writers: Heads, readers: Heads, slot: str) -> float:
    """Accuracy where the inputs `slot` ("q", "k" or "v") of some heads are as if others, of blocks below, were silenced."""
    seen: dict[int, torch.Tensor] = {}

    def keep(features: torch.Tensor, hook: HookPoint, layer: int) -> None:
        seen[layer] = features

    def put(features: torch.Tensor, hook: HookPoint, layer: int) -> torch.Tensor:
        features = features.clone()
        for head in (head for own, head in readers if own == layer):
            features[:, :, head] = seen[layer][:, :, head]
        return features

    layers = sorted({layer for layer, _ in readers})
    sites = {layer: f"blocks.{layer}.attn.hook_{slot}" for layer in layers}
    tokens = torch.from_numpy(of.ids)
    with torch.no_grad():
        reading = [(site, partial(keep, layer=layer)) for layer, site in sites.items()]
        network.run_with_hooks(tokens, fwd_hooks=[*_silencing(network, writers, of), *reading])
        writing = [(site, partial(put, layer=layer)) for layer, site in sites.items()]
        return _share_right(of, network.run_with_hooks(tokens, fwd_hooks=writing))


def scores_alike(of: Texts) -> tuple[float, float]:
    """`previous` and `induction` of a head that looks at all steps up to its own alike."""
    words, (_, step) = np.arange(2, of.ids.shape[1]), np.nonzero(of.second_copy)
    return float((1 / (words + 1)).mean()), float((1 / (step + 1)).mean())


def attention_scores(network: Induction, of: Texts) -> tuple[np.ndarray, np.ndarray]:
    """`previous` and `induction` of every head, float [layers, heads] each."""
    text, step = np.nonzero(of.second_copy)
    words = np.arange(2, of.ids.shape[1])
    previous, induction = [], []
    for pattern in _patterns(network, of):
        previous.append(pattern[:, :, words, words - 1].mean(axis=(0, 2)))
        induction.append(pattern[text, :, step, step - of.lag[text] + 1].mean(axis=0))
    return np.stack(previous), np.stack(induction)


def name_heads(network: Induction) -> None:
    """Find the heads of the circuit on development texts; keep them, and what silencing them does, in the answer key."""
    of = held_out_texts(network, lags=held_out_lags(), seed=DEVELOPMENT_SEED)
    previous, induction = attention_scores(network, of)
    alike_previous, alike_induction = scores_alike(of)
    found_previous, found_induction = previous >= NAMED * alike_previous, induction >= NAMED * alike_induction
    found_previous[-1] = False
    found_induction[0] = False
    network.previous_token_heads.copy_(torch.from_numpy(found_previous))
    network.induction_heads.copy_(torch.from_numpy(found_induction))
    if found_previous.any() and found_induction.any():
        shares = _silenced(network, of)
        network.accuracies.copy_(torch.tensor([shares[what] for what in SILENCED]))


def measure(network: Induction) -> Figures:
    """All figures of a trained network whose heads are named."""
    usual = held_out_texts(network, lags=trained_lags())
    strange = held_out_texts(network, lags=held_out_lags())
    previous, induction = attention_scores(network, strange)
    named_previous, named_induction = _named(network)
    circuit = [*named_previous, *named_induction]
    others = _others(network)
    single = {head: accuracy(network, strange, [head]) for head in [*circuit, *others]}
    weakest = min(single, key=lambda head: single[head])
    shares = _silenced(network, strange)
    return {
        "accuracy": accuracy(network, usual),
        "accuracy on lags never trained": shares["nothing"],
        "ideal": 1.0,
        "chance": 1 / len(WORDS),
        "previous-token heads": [list(head) for head in named_previous],
        "induction heads": [list(head) for head in named_induction],
        "previous-token score by head": previous.astype(float).round(4).tolist(),
        "induction score by head": induction.astype(float).round(4).tolist(),
        "without previous-token heads": accuracy(network, strange, named_previous) if named_previous else None,
        "without induction heads": accuracy(network, strange, named_induction) if named_induction else None,
        "without the circuit": shares["circuit"],
        "without previous-token heads in the induction heads' queries": shares["queries"],
        "without previous-token heads in the induction heads' keys": shares["keys"],
        "without previous-token heads in the induction heads' values": shares["values"],
        "without all other heads": shares["others"],
        "without as many other heads": _random_sets(network, strange, others, len(circuit)),
        "head missed most": list(weakest),
        "without the head missed most": single[weakest],
    }


def _silenced(network: Induction, of: Texts) -> dict[str, float | None]:
    """Accuracy with each of SILENCED silenced; None where the heads that it names are not there."""
    previous, induction = _named(network)
    circuit, whole = [*previous, *induction], previous and induction
    shares: dict[str, float | None] = {"nothing": accuracy(network, of)}
    for name in ("keys", "queries", "values"):
        shares[name] = accuracy_unread(network, of, previous, induction, name[0]) if whole else None
    shares["circuit"] = accuracy(network, of, circuit) if circuit else None
    shares["others"] = accuracy(network, of, _others(network)) if circuit else None
    return shares


def _named(network: Induction) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return _heads(network.previous_token_heads), _heads(network.induction_heads)


def _others(network: Induction) -> list[tuple[int, int]]:
    return _heads(~(network.previous_token_heads | network.induction_heads))


def _share_right(of: Texts, logits: torch.Tensor) -> float:
    right = logits.argmax(dim=-1).numpy()[:, :-1] == of.ids[:, 1:]
    return float(right[of.second_copy[:, 1:]].mean())


def _random_sets(network: Induction, of: Texts, others: Heads, size: int) -> float | None:
    """Mean accuracy without `size` heads that are not of the circuit; None where there are not so many."""
    if not 0 < size <= len(others):
        return None
    random = np.random.default_rng(TEST_SEED)
    drawn = [random.choice(len(others), size, replace=False) for _ in range(RANDOM_SETS)]
    return float(np.mean([accuracy(network, of, [others[place] for place in places]) for places in drawn]))


def _heads(mask: torch.Tensor) -> list[tuple[int, int]]:
    return [(int(layer), int(head)) for layer, head in mask.nonzero()]


def _patterns(network: Induction, of: Texts) -> list[np.ndarray]:
    """Attention patterns [texts, heads, query, key] of each block."""
    kept: list[np.ndarray] = []
    hooks = [
        (f"blocks.{layer}.attn.hook_pattern", lambda x, hook: kept.append(x.numpy())) for layer in _layers(network)
    ]
    with torch.no_grad():
        network.run_with_hooks(torch.from_numpy(of.ids), fwd_hooks=hooks)
    return kept


def _silencing(network: Induction, heads: Heads, of: Texts) -> list[tuple[str, Hook]]:
    """Hooks that let heads write the mean of what they write over these texts in the intact network."""
    means: dict[int, torch.Tensor] = {}
    layers = sorted({layer for layer, _ in heads})

    def keep(z: torch.Tensor, hook: HookPoint, layer: int) -> None:
        means[layer] = z.mean(dim=(0, 1))

    def silence(z: torch.Tensor, hook: HookPoint, layer: int) -> torch.Tensor:
        z = z.clone()
        for head in (head for own, head in heads if own == layer):
            z[:, :, head] = means[layer][head]
        return z

    def hooks(act: Hook) -> list[tuple[str, Hook]]:
        return [(f"blocks.{layer}.attn.hook_z", partial(act, layer=layer)) for layer in layers]

    with torch.no_grad():
        network.run_with_hooks(torch.from_numpy(of.ids), fwd_hooks=hooks(keep))
    return hooks(silence)


def _layers(network: Induction) -> range:
    return range(network.config.n_layers)
