"""A two-layer transformer of attention alone, as TransformerLens has them: the smallest that can form induction heads.

    x0 = W_E[token] + W_pos[step]        x1 = x0 + heads of block 0 (LN(x0))        x2 = x1 + heads of block 1 (LN(x1))
    logits = W_U LN(x2)

Projections have no biases, so that heads, embedding and unembedding are all there is. An induction circuit (Elhage et al.
2021; Olsson et al. 2022) needs two layers: a previous-token head of block 0 tells each step what the word before was, and
an induction head of block 1 looks for the step whose word before is the present word, and copies its word.

Convention. Hook points have TransformerLens' names. Steps are tokens, the start token first, and all pass a hook point in
one call, [batch, steps, ...]: this network has an additive residual stream, so its backend is the one of language models
(`nmri3d.phantoms.induction.backend`), and scans treat it as one.

Left out: MLPs, dropout, a bias of the unembedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.components import component_id
from nmri3d.errors import InputError
from nmri3d.models.backend import Stimulus
from nmri3d.phantoms.induction.task import WORDS, texts, trained_lags
from nmri3d.phantoms.induction.vocabulary import label, read_words
from nmri3d.phantoms.phantom import Identity, Part, Phantom, Truth

REFERENCE_SEED, REFERENCE_TEXTS = 20, 160

SILENCED = ("nothing", "keys", "queries", "values", "circuit", "others")
"""What is silenced for each entry of the buffer `accuracies`: what the previous-token heads write, in the keys, queries or
values of the induction heads; all of these heads; all other heads."""
WORKS, LOST, KEPT = 0.5, 0.25, 0.75
"""Accuracy from which on a network does the task; shares of it that are left at most where what it needs is silenced, and at
least where what it does not need is."""


@dataclass(frozen=True)
class Config:
    """Sizes of the network; the vocabulary is the task's."""

    n_layers: int = 2
    n_heads: int = 8
    d_model: int = 128
    d_head: int = 12
    n_context: int = 104


class Attention(nn.Module):
    """Causal multi-head attention, its projections without biases."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.d_head = config.d_head
        width = config.n_heads * config.d_head
        self.q_proj = nn.Linear(config.d_model, width, bias=False)
        self.k_proj = nn.Linear(config.d_model, width, bias=False)
        self.v_proj = nn.Linear(config.d_model, width, bias=False)
        self.o_proj = nn.Linear(width, config.d_model, bias=False)
        self.hook_q, self.hook_k, self.hook_v, self.hook_z = HookPoint(), HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()

    def forward(
        self, normed: torch.Tensor, *, attention_mask: torch.Tensor, past_key_values: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the heads write [batch, steps, d_model], and their pattern [batch, heads, query, key].

        attention_mask   bool [1, 1, query, key], True where a query may look
        past_key_values  has `update(keys, values)`, which gives those to look at; None: those of this call
        """
        q = self._by_head(self.hook_q, self.q_proj(normed))
        k = self._by_head(self.hook_k, self.k_proj(normed))
        v = self._by_head(self.hook_v, self.v_proj(normed))
        if past_key_values is not None:
            k, v = past_key_values.update(k, v)
        scores = self.hook_attn_scores(q @ k.mT / math.sqrt(self.d_head))
        pattern = self.hook_pattern(scores.masked_fill(~attention_mask, -torch.inf).softmax(dim=-1))
        z = self.hook_z((pattern @ v).transpose(1, 2))
        return self.o_proj(z.flatten(-2)), pattern

    def _by_head(self, hook: HookPoint, features: torch.Tensor) -> torch.Tensor:
        return hook(features.unflatten(-1, (-1, self.d_head))).transpose(1, 2)


class Block(nn.Module):
    """Layer norm, attention, and the residual added."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(config.d_model)
        self.attn = Attention(config)
        self.hook_resid_pre, self.hook_attn_out, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()

    def forward(self, residual: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The residual stream behind this block, [batch, steps, d_model]."""
        residual = self.hook_resid_pre(residual)
        written, _ = self.attn(self.ln1(residual), attention_mask=attention_mask)
        return self.hook_resid_post(residual + self.hook_attn_out(written))


class Induction(Phantom):
    """The network; see the module's first lines."""

    identity = Identity(
        name="induction",
        title="Induction",
        step_axis="token",
        outputs="logits",
        metric="logit of the target token minus logit of the foil",
        examples=(
            "cat sun key owl pear cat sun key owl",
            "moon lake fig wolf ring nest fig wolf ring nest fig wolf",
            "dog hat dog hat dog",
            "bee cup oak jam star hill pen bee cup oak jam star hill",
        ),
    )

    blocks: Sequence[Block]
    previous_token_heads: torch.Tensor
    induction_heads: torch.Tensor
    accuracies: torch.Tensor

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.embed = nn.Embedding(1 + len(WORDS), config.d_model)
        self.pos_embed = nn.Embedding(config.n_context, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))  # type: ignore[assignment]
        self.ln_final = nn.LayerNorm(config.d_model)
        self.unembed = nn.Linear(config.d_model, 1 + len(WORDS), bias=False)
        self.hook_embed, self.hook_pos_embed = HookPoint(), HookPoint()
        # what the trainer found on texts of its own: heads by their attention, shares of right answers without them
        heads = torch.zeros(config.n_layers, config.n_heads, dtype=torch.bool)
        self.register_buffer("previous_token_heads", heads)
        self.register_buffer("induction_heads", heads.clone())
        self.register_buffer("accuracies", torch.zeros(len(SILENCED)))
        with torch.no_grad():
            self.embed.weight.mul_(0.5)
            self.pos_embed.weight.copy_(_sinusoids(config.n_context, config.d_model))
        self.setup()

    @property
    def parts(self) -> Sequence[Part]:
        """Embedding, heads, unembedding, as a language model's table has them."""
        layers, heads = range(self.config.n_layers), range(self.config.n_heads)
        return (
            Part("embed", -1, -1, "hook_embed"),
            *(Part("head", l, h, f"blocks.{l}.attn.hook_z", column=h) for l in layers for h in heads),
            Part("unembed", -1, -1, f"blocks.{self.config.n_layers - 1}.hook_resid_post"),
        )

    @property
    def output_names(self) -> Sequence[str]:
        """The vocabulary."""
        return tuple(label(token) for token in range(1 + len(WORDS)))

    def weights(self, part: Part) -> Mapping[str, torch.Tensor]:
        """A part's own parameters; the norm before attention is cut into as many pieces as there are heads."""
        if part.kind == "embed":
            return {"W_E": self.embed.weight, "W_pos": self.pos_embed.weight}
        if part.kind == "unembed":
            return {"W_U": self.unembed.weight, "ln_final.w": self.ln_final.weight, "ln_final.b": self.ln_final.bias}
        block = self.blocks[part.layer]
        features = slice(part.index * self.config.d_head, (part.index + 1) * self.config.d_head)
        attn, pieces = block.attn, self.config.n_heads
        return {
            "W_Q": attn.q_proj.weight[features],
            "W_K": attn.k_proj.weight[features],
            "W_V": attn.v_proj.weight[features],
            "W_O": attn.o_proj.weight[:, features],
            "ln1.w": block.ln1.weight.tensor_split(pieces)[part.index],
            "ln1.b": block.ln1.bias.tensor_split(pieces)[part.index],
        }

    def stimulus(self, text: str) -> Stimulus:
        """Read words; the start token is put in front."""
        ids = read_words(text)
        if len(ids) > self.config.n_context:
            raise InputError(
                f"the text has {len(ids):,} tokens with the start token, and this network reads at most "
                f"{self.config.n_context:,}; shorten it"
            )
        labels = tuple(label(token) for token in ids)
        return Stimulus(text, np.array(ids, dtype=np.int64), labels, np.arange(len(ids)) == 0)

    def inputs(self, stimulus: Stimulus) -> dict[str, torch.Tensor]:
        """The token ids."""
        return {"tokens": torch.from_numpy(stimulus.ids)[None]}

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # the one input that it has
        """Logits of the next token, float32 [batch, steps, vocabulary]; tokens int64 [batch, steps]."""
        return self.unembed(self.normed_stream(tokens))

    def normed_stream(self, tokens: torch.Tensor) -> torch.Tensor:
        """The last residual behind the final norm, [batch, steps, d_model]."""
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        residual = self.hook_embed(self.embed(tokens)) + self.hook_pos_embed(self.pos_embed(steps))
        mask = (steps[None] <= steps[:, None])[None, None]
        for block in self.blocks:
            residual = block(residual, mask)
        return self.ln_final(residual)

    def reference(self) -> Sequence[str]:
        """Texts of trained lags, of 6 to 60 words, some of which repeat nothing yet."""
        random = np.random.default_rng(REFERENCE_SEED)
        drawn = texts(random, REFERENCE_TEXTS, self.config.n_context, trained_lags()).ids
        lengths = random.integers(6, 61, REFERENCE_TEXTS)
        return tuple(
            " ".join(WORDS[token - 1] for token in row[1 : 1 + n]) for row, n in zip(drawn, lengths, strict=True)
        )

    def answer_key(self) -> Sequence[Truth]:
        """The heads of the circuit, and what their silencing showed; no truth that the trainer's figures do not bear out."""
        previous, induction = (self._ids(mask) for mask in (self.previous_token_heads, self.induction_heads))
        found = []
        if previous:
            words = "from each token these heads of block 0 look at the token before"
            found.append(Truth("previous-token heads", words, previous, "training"))
        if induction:
            words = "from a word that was there before these heads of block 1 look at the word that followed it then"
            found.append(Truth("induction heads", words, induction, "training"))
        if not (previous and induction):
            return found
        share = dict(zip(SILENCED, self.accuracies.tolist(), strict=True))
        whole = share["nothing"]
        if whole < WORKS:
            return found
        if share["keys"] <= LOST * whole and min(share["queries"], share["values"]) >= KEPT * whole:
            words = (
                "the induction heads read what the previous-token heads write by their keys: without it there "
                f"{share['keys']:.3f} of the copied words come first, in queries {share['queries']:.3f}, in values "
                f"{share['values']:.3f}, of {whole:.3f}"
            )
            found.append(Truth("key composition", words, (*previous, *induction), "intervention"))
        if share["circuit"] <= LOST * whole and share["others"] >= KEPT * whole:
            words = (
                f"without these heads together {share['circuit']:.3f} of the copied words come first (chance "
                f"{1 / len(WORDS):.3f}), without all others together {share['others']:.3f}, of {whole:.3f}"
            )
            found.append(Truth("induction circuit", words, (*previous, *induction), "intervention"))
        return found

    def _ids(self, mask: torch.Tensor) -> tuple[str, ...]:
        return tuple(component_id("head", layer, head) for layer, head in mask.nonzero().tolist())


def _sinusoids(n_context: int, d_model: int) -> torch.Tensor:
    """Where positions start, [n_context, d_model]: sinusoids of evenly spaced frequencies, so that no two are alike.

    Positions are trained like all else; from random ones a previous-token head takes many times as long to form.
    """
    frequency = math.pi * (torch.arange(d_model // 2) + 0.5) / (d_model // 2)
    angle = torch.arange(n_context)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1) * 0.5
