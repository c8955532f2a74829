"""Prefixes of sentences as training data and as test data, with what the grammar knows about each.

Convention. Training prefixes come from sentences without anything held out, at a uniformly drawn position of each. Test
prefixes come from sentences of the whole grammar; `Prefix.split` says what of them training never showed.

Left out: batching by length; padding is -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from nmri3d.phantoms.sprout.grammar import State, follow, options, sentence, states
from nmri3d.phantoms.sprout.lexicon import NEVER_PLURAL, NEVER_PROGRESSIVE, TOKEN


@dataclass(frozen=True)
class Prefix:
    """The first tokens of a sentence, the token that came next in it, and the grammar's state in between."""

    tokens: tuple[str, ...]
    following: str
    state: State

    @property
    def ideal(self) -> Mapping[str, float]:
        """The distribution of the next token by the whole grammar."""
        return options(self.state, train=False)

    @property
    def determined(self) -> bool:
        """Whether exactly one token may follow."""
        return len(self.ideal) == 1

    @property
    def split(self) -> str:
        """What of it, the next token included, training never shows: "word" (a form), "combination" (a pair), "seen" (neither).

        A prefix that holds both counts as "word".
        """
        whole = (*self.tokens, self.following)
        for stem, suffix in pairwise(whole):
            if (suffix == "+s" and stem in NEVER_PLURAL) or (suffix == "+ing" and stem in NEVER_PROGRESSIVE):
                return "word"
        return "combination" if follow(self.state, self.following).unheard else "seen"


def prefixes_of(tokens: Sequence[str]) -> list[Prefix]:
    """All prefixes of a sentence, from its first token on."""
    return [Prefix(tuple(tokens[:n]), tokens[n], state) for n, state in enumerate(states(list(tokens[:-1]))) if n]


def test_prefixes(seed: int, sentences: int) -> list[Prefix]:
    """All prefixes of sentences of the whole grammar."""
    random = np.random.default_rng([seed, 1])
    return [prefix for _ in range(sentences) for prefix in prefixes_of(sentence(random, train=False))]


def padded(prefixes: Sequence[Sequence[str]]) -> torch.Tensor:
    """Token numbers int64 [prefixes, longest], -1 where there is none."""
    longest = max(len(tokens) for tokens in prefixes)
    rows = [[TOKEN[token] for token in tokens] + [-1] * (longest - len(tokens)) for tokens in prefixes]
    return torch.tensor(rows)


def training_batches(
    random: np.random.Generator, corpus: Sequence[Sequence[str]], size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of prefixes [size, tokens] and the tokens that follow, [size]."""
    while True:
        chosen = [corpus[number] for number in random.integers(len(corpus), size=size)]
        cuts = [int(random.integers(1, len(tokens))) for tokens in chosen]
        prefixes = [tokens[:cut] for tokens, cut in zip(chosen, cuts, strict=True)]
        following = [TOKEN[tokens[cut]] for tokens, cut in zip(chosen, cuts, strict=True)]
        yield padded(prefixes), torch.tensor(following)
