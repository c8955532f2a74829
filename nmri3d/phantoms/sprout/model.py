"""SPROUT: a sentence prefix becomes one pattern of 128 of 4096 units, which five rounds of messages refine; the next token
is read off the pattern.

Convention. Steps are the initial pattern (0) and the rounds (1 to 5); the outputs at every step are the logits that the
decoder, two linear maps, reads off the pattern of that step. Encoder and pool act once, before step 0. Nothing but the
pattern is carried from a round to the next, so silencing a unit in one round leaves nothing of it behind.
A stimulus packs its tokens into the ids of its steps, eight to a step in base 128 (0: none), so that equal ids mean equal
prefixes.

Left out: generation; the pattern of each prefix is made anew.
Source: `spec/sprout.md` of the design; departures are listed in `nmri3d.phantoms.sprout.population`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from nmri3d.errors import InputError
from nmri3d.models.backend import Stimulus
from nmri3d.phantoms.phantom import Identity, Part, Phantom, Truth
from nmri3d.phantoms.sprout.encoder import Encoder, normal
from nmri3d.phantoms.sprout.grammar import sentence
from nmri3d.phantoms.sprout.lexicon import TOKEN, VOCABULARY, read, write
from nmri3d.phantoms.sprout.population import Population

PACKED = 8
REFERENCES = 120
READINGS = {"plural units": ("are", "is"), "singular units": ("is", "are"), "past units": ("was", "is")}
"""Which form of be, rather than which other, the decoder reads from units of the answer key."""
FEATURES = {
    "plural units": "after 'now', where the subject is plural",
    "singular units": "after 'now', where the subject is singular",
    "past units": "after 'then' rather than 'now'",
}
"""Where they are active: rows of the buffer `known`."""


@dataclass(frozen=True)
class Config:
    """units, of which active win; width of all vectors; encoder heads and layers; heads of the messages; by how
    much activity raises a unit's own next score; rounds;
    most tokens of a prefix (and no more than PACKED a step)."""

    units: int = 4096
    active: int = 128
    width: int = 48
    encoder_heads: int = 4
    encoder_layers: int = 2
    message_heads: int = 2
    inertia: float = 4.0
    rounds: int = 5
    context: int = 24


class Decoder(nn.Module):
    """Pattern to dense vector to logits; each unit's own row of `W_dense` belongs to the unit."""

    def __init__(self, units: int, width: int, tokens: int) -> None:
        super().__init__()
        self.W_dense, self.b_dense = normal(units, width, std=0.2), nn.Parameter(torch.zeros(width))
        self.W_U, self.b_U = normal(width, tokens, std=width**-0.5), nn.Parameter(torch.zeros(tokens))
        self.hook_dense = HookPoint()

    def forward(self, pattern: Tensor) -> Tensor:
        return self.hook_dense(pattern @ self.W_dense + self.b_dense) @ self.W_U + self.b_U


class Sprout(Phantom):
    """See the module's first lines. Tokens below 0 are padding, which training uses."""

    identity: ClassVar[Identity] = Identity(
        name="sprout",
        title="SPROUT",
        step_axis="refinement round",
        outputs="logits",
        metric="logit of the target token minus logit of the foil, read off the pattern of a round",
        examples=(
            "now the cats near this dog",
            "now the cat near these dogs",
            "often the big lamp behind the doors glow",
            "yesterday every pilot near the boat",
            "then some apples",
        ),
    )

    def __init__(self, config: Config = Config()) -> None:  # frozen
        super().__init__()
        self.config = config
        steps = config.rounds + 1
        self.context = min(config.context, PACKED * steps)
        self.encoder = Encoder(
            len(VOCABULARY), config.context, config.width, config.encoder_heads, config.encoder_layers
        )
        self.population = Population(config.units, config.active, config.width, config.message_heads, config.inertia)
        self.decoder = Decoder(config.units, config.width, len(VOCABULARY))
        self.register_buffer("known", torch.zeros(len(FEATURES), config.units, dtype=torch.int8))
        self.known: Tensor
        self.setup()

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # the one input that there is
        """tokens int64 [batch, at most `context`]; returns logits [batch, steps, vocabulary]."""
        return torch.stack([self.decoder(pattern) for pattern in self.patterns(tokens)], 1)

    def patterns(self, tokens: Tensor) -> list[Tensor]:
        """The patterns of all steps, [batch, units] each."""
        return self.settle(self.population.begin(self.encoder(tokens)), self.config.rounds)

    def settle(self, pattern: Tensor, rounds: int) -> list[Tensor]:
        """A pattern [batch, units] and what some rounds make of it, 1 + rounds patterns."""
        patterns = [pattern]
        for _ in range(rounds):
            patterns.append(self.population.round(patterns[-1]))
        return patterns

    def reading(self, token: str, other: str) -> Tensor:
        """By how much one unit of activity raises the logit of a token over another's, at the same step; [units], exact."""
        decoder = self.decoder
        return decoder.W_dense @ (decoder.W_U[:, TOKEN[token]] - decoder.W_U[:, TOKEN[other]])

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        config = self.config
        found = [Part("embedding", 0, 0, "encoder.hook_embed", once=True)]
        for layer in range(config.encoder_layers):
            block = f"encoder.blocks.{layer}"
            found += [
                Part("encoder_head", 1 + layer, head, f"{block}.attn.hook_z", column=head, once=True)
                for head in range(config.encoder_heads)
            ]
            found.append(Part("encoder_mlp", 1 + layer, 0, f"{block}.hook_mlp_out", once=True))
        depth = 1 + config.encoder_layers
        found.append(Part("pool", depth, 0, "encoder.pool.hook_pooled", once=True))
        found.append(Part("field", depth + 1, 0, "population.hook_field"))
        activation = "population.hook_activation"
        found += [
            Part("unit", depth + 1, unit, activation, unit, scalar=True, rate=True) for unit in range(config.units)
        ]
        found += [
            Part("message_head", depth + 2, head, "population.messages.hook_size", column=head)
            for head in range(config.message_heads)
        ]
        found.append(Part("update", depth + 2, 0, "population.update.hook_size"))
        found.append(Part("decoder", depth + 3, 0, "decoder.hook_dense"))
        return tuple(found)

    @property
    def output_names(self) -> Sequence[str]:
        return VOCABULARY

    def weights(self, part: Part) -> Mapping[str, Tensor]:
        encoder, population, decoder = self.encoder, self.population, self.decoder
        match part.kind:
            case "embedding":
                return {"W_E": encoder.W_E, "W_pos": encoder.W_pos}
            case "encoder_head":
                attn = encoder.block(part.layer - 1).attn
                return {name: weight[part.index] for name, weight in attn.named_parameters()}
            case "encoder_mlp":
                return dict(encoder.block(part.layer - 1).mlp.named_parameters())
            case "pool":
                return dict(encoder.pool.named_parameters())
            case "unit":
                selection = population.selection
                return {
                    "signature": selection.signature[part.index],
                    "bias": selection.bias[part.index : part.index + 1],
                    "W_dense": decoder.W_dense[part.index],
                }
            case "message_head":
                return {name: weight[part.index] for name, weight in population.messages.named_parameters()}
            case "update":
                return dict(population.update.named_parameters())
            case "field":
                return {"W_field": population.W_field, "persist": population.persist}
        return {"b_dense": decoder.b_dense, "W_U": decoder.W_U, "b_U": decoder.b_U}

    def stimulus(self, text: str) -> Stimulus:
        if not isinstance(text, str) or not text.strip():
            raise InputError("there is no text; type the beginning of a sentence, such as: now the cats near this dog")
        tokens = read(text)
        if len(tokens) > self.context:
            raise InputError(
                f"SPROUT reads at most {self.context} stems and suffixes, and this text has {len(tokens)}; shorten it"
            )
        steps = self.config.rounds + 1
        digits = np.zeros((steps, PACKED), np.int64)
        digits.flat[: len(tokens)] = [TOKEN[token] + 1 for token in tokens]
        ids = digits @ 128 ** np.arange(PACKED)
        labels = ("initial", *(f"round {number}" for number in range(1, steps)))
        return Stimulus(text, ids, labels, np.zeros(steps, bool))

    def inputs(self, stimulus: Stimulus) -> dict[str, Tensor]:
        digits = (stimulus.ids[:, None] // 128 ** np.arange(PACKED) % 128).ravel()
        return {"tokens": torch.from_numpy(digits[digits > 0] - 1)[None]}

    def reference(self) -> Sequence[str]:
        """Different prefixes of sentences as in training, of every length."""
        random = np.random.default_rng(0)
        prefixes: dict[str, None] = {}
        while len(prefixes) < REFERENCES:
            tokens = sentence(random, train=True)
            prefixes[write(tokens[: int(random.integers(2, len(tokens)))])] = None
        return tuple(prefixes)

    def answer_key(self) -> Sequence[Truth]:
        """Units that tell number and tense, named by the trainer; none for a network that was not trained."""
        return tuple(
            Truth(
                name,
                f"These units are active {where}: in at least one prefix of five and five times as often as otherwise, after "
                f"the last round, on pairs of nouns that training never showed; and the decoder reads {READINGS[name][0]!r} "
                f"rather than {READINGS[name][1]!r} from them.",
                tuple(f"unit.{self._unit_depth}.{unit}" for unit in np.flatnonzero(row).tolist()),
                "training",
            )
            for (name, where), row in zip(FEATURES.items(), self.known.numpy(force=True), strict=True)
            if row.any()
        )

    @property
    def _unit_depth(self) -> int:
        return self.config.encoder_layers + 2
