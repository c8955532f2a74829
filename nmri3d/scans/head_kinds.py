"""Head kinds: which heads look at the token before, at an earlier copy, or at what followed an earlier copy.

Convention (Olsson et al. 2022, "In-context learning and induction heads"). The model reads `length` random tokens twice,
behind a BOS token where its tokenizer puts one in front. On that text, with A the attention pattern of a head and n the
length, the scores are mean attention weights, from 0 to 1:

    previous   A[t, t - 1]      to the token before, over all tokens of the text but the first
    duplicate  A[t, t - n]      from each token of the second copy to the same token in the first
    induction  A[t, t - n + 1]  from each token of the second copy to the one that followed it in the first

Random tokens have no meaning, so that only their order can be followed. They are drawn by the seed, all different, from the
tokens of letters. A head can score in several kinds, or in none.

Cost. One pass; memory: one layer's patterns at a time.

Left out: what heads write (`nmri3d.scans.attribution`), and kinds that need a language (name movers and others).
"""

from __future__ import annotations

import numpy as np
import torch

from nmri3d.errors import InputError, UnsupportedModelError
from nmri3d.models.backend import Backend, Progress, Stimulus, no_progress
from nmri3d.models.residual_backend import require_residual
from nmri3d.results import HEAD_KINDS, HeadKinds

LENGTH = 50


def head_kinds(model: Backend, *, seed: int = 0, length: int = LENGTH, progress: Progress = no_progress) -> HeadKinds:
    """Score every head on `length` random tokens, read twice.

    Raises InputError where the length does not fit the model and for a network without a residual stream,
    UnsupportedModelError for one without attention, and whatever `progress` raises.
    """
    model = require_residual(model, "head_kinds")
    rows = model.components.rows("head")
    if not len(rows):
        raise UnsupportedModelError(f"{model.info.title} has no attention heads, so there are no kinds of heads")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"a seed is a whole number, zero or more; got {seed!r}")
    stimulus, offset = repeated_tokens(model, seed=seed, length=length)
    layers = sorted(set(model.components.layer[rows].tolist()))
    sites = {f"blocks.{layer}.attn.hook_pattern": layer for layer in layers}
    run = model.run(stimulus, dict.fromkeys(sites, lambda pattern: _scores(pattern, offset, length)), progress=progress)
    scores = np.zeros((len(rows), len(HEAD_KINDS)), dtype=np.float32)
    for site, layer in sites.items():
        own = np.flatnonzero(model.components.layer[rows] == layer)
        scores[own] = run.reads[site][model.components.index[rows[own]]]
    previous, duplicate, induction = scores.T
    return HeadKinds(rows, previous, duplicate, induction, model.components, seed, length)


def repeated_tokens(model: Backend, *, seed: int, length: int) -> tuple[Stimulus, int]:
    """Random tokens, twice, behind the BOS where there is one; and where the text begins (0 or 1).

    Raises InputError where two copies are longer than the model's context, or there are not so many tokens.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 2:
        raise InputError(f"length is a whole number of tokens, at least 2; got {length!r}")
    plain = model.stimulus(model.examples[0])
    front = plain.ids[plain.special]
    if len(front) + 2 * length > model.info.n_context:
        raise InputError(
            f"two copies of {length:,} tokens are longer than the {model.info.n_context:,} that {model.info.title} reads; "
            "take a smaller length"
        )
    drawn = _drawn(model, np.random.default_rng(seed), length)
    ids = np.concatenate([front, drawn, drawn]).astype(np.int64)
    special = np.zeros(len(ids), dtype=bool)
    special[: len(front)] = True
    labels = tuple(model.token_text(token) for token in ids.tolist())
    return Stimulus("", ids, labels, special), len(front)


def _drawn(model: Backend, random: np.random.Generator, length: int) -> np.ndarray:
    """Different tokens of letters alone (so none that a tokenizer treats as special), which their own text gives back."""
    found: list[int] = []
    for token in random.permutation(model.info.d_vocab).tolist():
        text = model.token_text(token)
        if text.strip().isalpha() and _is_one_token(model, text, token):
            found.append(token)
            if len(found) == length:
                return np.array(found)
    raise InputError(f"{model.info.title} has {len(found):,} tokens of letters to draw from; take a smaller length")


def _is_one_token(model: Backend, text: str, token: int) -> bool:
    try:
        return model.token_id(text) == token
    except InputError:
        return False


def _scores(pattern: torch.Tensor, offset: int, length: int) -> np.ndarray:
    """Scores of a layer's heads, float32 [heads, kinds], from their pattern [heads, query, key]."""
    text = pattern[:, offset:, offset:].float()
    steps = torch.arange(2 * length, device=pattern.device)
    second = steps[length:]
    scores = [
        text[:, steps[1:], steps[:-1]].mean(dim=-1),
        text[:, second, second - length].mean(dim=-1),
        text[:, second, second - length + 1].mean(dim=-1),
    ]
    return torch.stack(scores, dim=-1).cpu().numpy()
