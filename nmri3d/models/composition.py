"""Which components read what others write: composition scores from the weights alone, and features made of them.

A component w that writes to the residual stream by a matrix A_w [anything, d_model], and one that reads it by B_r
[d_model, anything], compose as strongly as

    score = ||A_w B_r|| / (||A_w|| ||B_r||)        (Frobenius norms; Elhage et al. 2021)

    writers   head: W_V W_O; MLP: W_out; embed: W_E, learned positions left out
    readers   head, slots q, k, v: W_Q W_K^T, its transpose, W_V W_O; slot "in": an MLP's W_in and W_gate side by side, each
              of norm 1; unembed: W_U

A grouped-query head reads with the K/V head that it shares. The gain of the norm before a reader is part of B, and so is
the centering of a layer norm; the gain of a post-norm is part of A. Scales that depend on the input are left out, as are
biases and rotary positions.

Chance. For matrices that are turned at random against each other the mean of score^2 is 1 / d_model, whatever their
spectra; `chance` is its root.

Cost. ||A B||^2 is the inner product of A^T A and B B^T, exact, in n^2 d^2 multiplications. Where that is more than
EXACT_OPERATIONS, A and B are replaced by SKETCH_ROWS random combinations of their rows and columns (seed 0), of which
the mean of score^2 is the same; the score of a pair is then off by about a tenth.

Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from nmri3d.components import ComponentTable
from nmri3d.models.backend import Progress, no_progress
from nmri3d.models.norms import frozen_norm
from nmri3d.models.sites import Block, ModuleMap, weight_of, wide
from nmri3d.models.weights import AttentionWeights, AttentionWeightsOf, MlpWeightsOf

SLOTS = ("q", "k", "v", "in")
EXACT_OPERATIONS = 2.5e11
SKETCH_ROWS = 16


@dataclass(frozen=True, eq=False)
class Composition:
    """Composition scores of n components.

    score    float32 [len(SLOTS), n, n]: slot of the reader, writer, reader. NaN where the reader has no such slot, where one of
             them does not write or read, and where the writer does not come before the reader
    chance   what matrices turned at random against each other score
    exact    whether every product was taken whole
    """

    score: np.ndarray
    chance: float
    exact: bool


def composition_scores(
    modules: ModuleMap,
    components: ComponentTable,
    d_model: int,
    attention_of: AttentionWeightsOf,
    mlp_of: MlpWeightsOf,
    *,
    exact: bool | None = None,
    progress: Progress = no_progress,
) -> Composition:
    """The scores of all pairs. `exact` None: where that takes at most EXACT_OPERATIONS."""
    n = len(components)
    if exact is None:
        exact = 2.0 * n**2 * d_model**2 <= EXACT_OPERATIONS
    rule = (_grams if exact else _sketch)(d_model)
    score = np.full((len(SLOTS), n, n), np.nan, dtype=np.float32)
    parts = list(_parts(modules, components, attention_of, mlp_of))
    written: torch.Tensor | None = None  # what every writer so far has, one after the other
    writers = np.empty(0, dtype=np.int64)
    with torch.no_grad():
        for number, (rows, reads, writes) in enumerate(parts):
            progress(number / len(parts), "which components read what others write")
            slots = reads()
            if slots and written is not None:
                readers = torch.stack([rule(matrix.mT) for matrices in slots.values() for matrix in matrices])
                found = _products(written[: len(writers)], readers.to(written.device), exact).cpu().numpy()
                for slot, products in zip(slots, np.split(found, len(slots), axis=1), strict=True):
                    score[SLOTS.index(slot), writers[:, None], rows] = products
            new = [rule(matrix) for matrix in writes()]
            if new:
                if written is None:
                    written = torch.empty((n, *new[0].shape), device=new[0].device)
                torch.stack(new, out=written[len(writers) : len(writers) + len(rows)])
                writers = np.concatenate([writers, rows])
    progress(1.0, "which components read what others write")
    return Composition(score, d_model**-0.5, exact)


Reads = Callable[[], dict[str, list[torch.Tensor]]]
"""By slot, the reading matrices [d_model, k] of some rows."""

Writes = Callable[[], list[torch.Tensor]]
"""The writing matrices [k, d_model] of some rows."""


def _parts(
    modules: ModuleMap, components: ComponentTable, attention_of: AttentionWeightsOf, mlp_of: MlpWeightsOf
) -> Iterator[tuple[np.ndarray, Reads, Writes]]:
    """Rows in the order of the stream: what they read by, what they write by.

    What a part reads is asked for before what it writes, so that nothing composes with itself. In a parallel block heads
    and MLP both read before either writes.
    """
    yield components.rows("embed"), dict, lambda: [wide(weight_of(modules.embed))]
    for layer, block in enumerate(modules.blocks):
        heads, mlp = components.rows("head", layer), components.rows("mlp", layer)
        of_heads, of_mlp = _Heads(block, partial(attention_of, layer)), _Mlp(block, partial(mlp_of, layer))
        if block.mlp is None:
            yield heads, of_heads.reads, of_heads.writes
        elif modules.parallel:
            yield heads, of_heads.reads, list
            yield mlp, of_mlp.reads, list
            yield heads, dict, of_heads.writes
            yield mlp, dict, of_mlp.writes
        else:
            yield heads, of_heads.reads, of_heads.writes
            yield mlp, of_mlp.reads, of_mlp.writes
    unembedding = wide(weight_of(modules.unembed)).mT
    yield components.rows("unembed"), lambda: {"in": [_behind(modules.final_norm, unembedding)]}, list


@dataclass(frozen=True, eq=False)
class _Heads:
    """The heads of a block."""

    block: Block
    weights: Callable[[], AttentionWeights]

    def reads(self) -> dict[str, list[torch.Tensor]]:
        weights, norm = self.weights(), self.block.norm_before_attn
        q, k, v = (_behind(norm, wide(weight)) for weight in (weights.w_q, weights.w_k, weights.w_v))
        o = wide(weights.w_o)
        pairs = [(head, weights.kv_head(head)) for head in range(len(q))]
        # Only the Gram matrix of the far side counts, so its triangular factor stands for it.
        return {
            "q": [q[head] @ _factor(k[kv]).mT for head, kv in pairs],
            "k": [k[kv] @ _factor(q[head]).mT for head, kv in pairs],
            "v": [v[kv] @ _factor(o[head].mT).mT for head, kv in pairs],
        }

    def writes(self) -> list[torch.Tensor]:
        weights = self.weights()
        v = _behind(self.block.norm_before_attn, wide(weights.w_v))
        o = wide(weights.w_o) * _gain(self.block.norm_after_attn, weights.w_o)
        return [_factor(v[weights.kv_head(head)]) @ o[head] for head in range(len(o))]


@dataclass(frozen=True, eq=False)
class _Mlp:
    """The MLP of a block."""

    block: Block
    weights: Callable[[], dict[str, torch.Tensor]]

    def reads(self) -> dict[str, list[torch.Tensor]]:
        norm = self.block.norm_before_mlp
        reading = [_behind(norm, wide(weight)) for name, weight in self.weights().items() if name != "W_out"]
        return {"in": [torch.cat([weight / torch.linalg.matrix_norm(weight) for weight in reading], dim=1)]}

    def writes(self) -> list[torch.Tensor]:
        weight = wide(self.weights()["W_out"])
        return [weight * _gain(self.block.norm_after_mlp, weight)]


def _gain(norm: nn.Module | None, like: torch.Tensor) -> torch.Tensor:
    """What a norm multiplies each dimension by, [d_model]; ones where there is none."""
    d_model = like.shape[-1]
    if norm is None:
        return torch.ones(d_model, device=like.device)
    probe = torch.linspace(-1, 1, d_model, device=weight_of(norm).device)
    return frozen_norm(norm, probe[None]).gain.to(like.device)


def _behind(norm: nn.Module | None, weight: torch.Tensor) -> torch.Tensor:
    """A reading matrix [..., d_model, k] with the norm before it: its gain, and the centering of a layer norm."""
    weight = weight * _gain(norm, weight.mT)[:, None]
    return weight - weight.mean(dim=-2, keepdim=True) if isinstance(norm, nn.LayerNorm) else weight


def _factor(matrix: torch.Tensor) -> torch.Tensor:
    """The triangular factor of [d, k]: R with R^T R = matrix^T matrix."""
    return torch.linalg.qr(matrix, mode="r").R


def _grams(d_model: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A rule that gives the Gram matrix of a writer's columns (a reader comes transposed), of trace 1.

    Only one half of it, [d_model (d_model + 1) / 2], so weighted that inner products are those of the whole.
    """
    row, column = torch.triu_indices(d_model, d_model)
    place, weight = row * d_model + column, torch.where(row == column, 1.0, 2**0.5)

    def rule(matrix: torch.Tensor) -> torch.Tensor:
        gram = matrix.mT @ matrix
        half = gram.flatten().index_select(0, place.to(gram.device)).mul_(weight.to(gram.device))
        return half.div_(gram.diagonal().sum().clamp_min(1e-30))

    return rule


def _sketch(d_model: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A rule that gives SKETCH_ROWS random combinations of the rows of a matrix of norm 1."""
    generator = torch.Generator().manual_seed(0)

    def rule(matrix: torch.Tensor) -> torch.Tensor:
        if len(matrix) > d_model:
            matrix = _factor(matrix)
        mix = torch.randn(SKETCH_ROWS, len(matrix), generator=generator).to(matrix.device) / SKETCH_ROWS**0.5
        return mix @ matrix / torch.linalg.matrix_norm(matrix).clamp_min(1e-30)

    return rule


def _products(written: torch.Tensor, read: torch.Tensor, exact: bool) -> torch.Tensor:
    """Scores [writers, readers] from what `_grams` or `_sketch` gave of each."""
    if exact:
        square = written @ read.mT
    else:
        products = written.flatten(0, 1) @ read.flatten(0, 1).mT
        square = (products**2).unflatten(0, written.shape[:2]).unflatten(-1, read.shape[:2]).sum(dim=(1, 3))
    return square.clamp_min(0).sqrt()
