"""What looking inside returns beside scans: the logit lens, kinds of heads, own effects, neurons, passages, written tokens.

Left out: how each is measured, which the module of the same name in `nmri3d.scans` and `nmri3d.template` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.results.comparison import Prediction
from nmri3d.results.scan import Scan

HEAD_KINDS = ("previous", "duplicate", "induction")
KIND_THRESHOLD = 0.3
"""Mean attention above which a head is named after a kind: chance on 2 * 50 random tokens is about 0.02."""


@dataclass(frozen=True, eq=False)
class LensTable:
    """The k likeliest tokens at each row (point of the residual stream) and position, likeliest first.

    tokens            the prompt's
    labels            of the rows, "3 attn" (after the attention of block 3), "3 mlp" (after block 3), …, in the stream's order
    sites, layers     "attn" or "mlp", and int64 [rows]
    token_ids         int64 [rows, tokens, k]
    texts             str [rows, tokens, k]
    probabilities     float32 [rows, tokens, k]
    kl, entropy       float32 [rows, tokens], nats; kl = KL(final || lens), NaN in the last row, where it is 0 by definition
    """

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    sites: tuple[str, ...]
    layers: np.ndarray
    token_ids: np.ndarray
    texts: np.ndarray
    probabilities: np.ndarray
    kl: np.ndarray
    entropy: np.ndarray


@dataclass(frozen=True, eq=False)
class HeadKinds:
    """Scores of every head.

    rows                            int64 [heads], rows of the component table
    previous, duplicate, induction  float32 [heads], mean attention weight, 0 to 1
    components                      the table that rows are of
    seed, length                    of the random tokens
    """

    rows: np.ndarray
    previous: np.ndarray
    duplicate: np.ndarray
    induction: np.ndarray
    components: ComponentTable
    seed: int
    length: int

    def names(self, threshold: float = KIND_THRESHOLD) -> dict[str, tuple[str, ...]]:
        """Ids of the heads that score at least the threshold, by kind, highest first."""
        found = {}
        for kind in HEAD_KINDS:
            scores = getattr(self, kind)
            order = np.argsort(-scores, kind="stable")
            found[kind] = tuple(self.components.ids[self.rows[i]] for i in order if scores[i] >= threshold)
        return found

    def of(self, component: str) -> dict[str, float]:
        """The three scores of one head. Raises InputError for a component that is no head."""
        place = np.flatnonzero(self.rows == self.components.row(component))
        if not len(place):
            raise InputError(f"{component} is no attention head, so it has no kind; choose a head")
        return {kind: float(getattr(self, kind)[place[0]]) for kind in HEAD_KINDS}


@dataclass(frozen=True, eq=False)
class OwnEffect:
    """The component, its point (layer, and site "attn" or "mlp"), and three arrays float32 [tokens] in nats."""

    component: str
    layer: int
    site: str
    tokens: tuple[str, ...]
    change: np.ndarray
    toward_final: np.ndarray
    entropy_change: np.ndarray


@dataclass(frozen=True)
class TopNeuron:
    """One of the strongest neurons of a layer at a position."""

    component: str
    index: int
    activation: float


@dataclass(frozen=True)
class Example:
    """A reference passage: its number and text, the position and token where the write is largest, and its norm there.

    `ratio` is the norm over the component's mean norm on the reference text.
    """

    passage: int
    text: str
    position: int
    token: str
    value: float
    ratio: float


@dataclass(frozen=True, eq=False)
class GenerationStep:
    """One token: its number from 0, the token itself, and the fMRI scan of the text that ends with it."""

    index: int
    token: Prediction
    scan: Scan
    text: str


@dataclass(frozen=True, eq=False)
class Writing:
    """What a model wrote: its tokens in order, the whole text with the prompt, and the fMRI scan of that text."""

    tokens: tuple[Prediction, ...]
    text: str
    scan: Scan
