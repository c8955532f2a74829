"""The world model: token, sentence, paragraph and discourse levels, each a recurrent latent with a clock of its own.

One token goes up, then down. h is a level's latent, m the message that comes up to it, s what it expects, all of `width`:

    up    m[0] = embed(token)                                   m[l] = m[l-1] + tanh(P[l] [m[l-1], h[l-1]])
          g[l] = least[l] + (1 - least[l]) sigmoid(G[l] [m[l], h[l], d[l]])   the share of the latent that is renewed
          h[l] = h[l] + g[l] * (tanh(C[l] m[l]) - h[l])
    down  s[l] = tanh(A[l] h[l] + d[l])                         d[l] = depth[l] * (B[l] s[l+1]);  depth = sigmoid(D h[0])
          logits = U[0] s[0] + sum over l > 0 of depth[l-1] * U[l] s[l]

The bound of g is a level's clock: it forgets in at most 1 / least[l] tokens, so that what lasts can only be held above. How
much evidence moves a level is learned. What is renewed does not see the latent itself or what comes down, else a quick level
could hold by itself, or in a loop, what is not its own (tried: the token level then held all four hidden variables, the
others were ignored). d, the top-down conditioning, is of the token before where it enters `up`.
depth[l], one number a token, is how much the token level asks of level l + 1, which conditions the level below it and has
its say on the next word by that much (dynamic depth).
Each level also predicts, from s[l], which of its own words come within its horizon (`bags`).

Convention. Steps are tokens. Levels are numbered from the quickest, as in `nmri3d.phantoms.world_model.lexicon`: the token
level holds the scene, the sentence level the topic, the paragraph level the place, the discourse level the society.

What a step is, is the token, not the level: all four levels run at every token, and what moves when is what is to be seen;
a level is a depth in the brain.

Left out: sampling of text; levels beyond the four that the corpus has; saving the work of levels that are not asked (all are
computed, `depth` weighs them); clocks that are all alike (that is the ablation "equal clocks").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.errors import InputError
from nmri3d.models.backend import Stimulus
from nmri3d.phantoms.phantom import Identity, Part, Phantom, Truth
from nmri3d.phantoms.world_model.corpus import Hierarchy, sample
from nmri3d.phantoms.world_model.lexicon import LEVELS, OWN, TOKEN, WORDS

LONGEST_TEXT = 512

START = -2.0
"""Bias of the clocks at the start of training: levels begin near the slow bound."""

HELD = 0.9
"""Share of tokens that a level's own probe must name."""

DEPTHS = ("token", "sentence", "paragraph", "discourse")
"""Names of the network's levels, level 0 first."""


@dataclass(frozen=True)
class Config:
    """The network and what it learns by; the defaults are the shipped network.

    width, group     units a level, and units a component of its latent
    least            smallest share of itself that a level renews at a token
    horizons         tokens ahead that a level predicts its own words of
    learned_clocks   False: a level renews the same share of itself at every token, that of the start of training
    top_down         False: no level is conditioned by those above
    noise            standard deviation of the noise on messages between levels while training (information bottleneck)
    level_weights    weight of each level's prediction of its own words, then one weight each of the other losses; the next
                     word's is 1
    """

    width: int = 64
    group: int = 4
    least: tuple[float, ...] = (0.4, 0.08, 0.03, 0.002)
    horizons: tuple[int, ...] = (3, 6, 24, 64)
    learned_clocks: bool = True
    top_down: bool = True
    noise: float = 0.02
    level_weights: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2)
    consistency: float = 0.02
    stability: float = 0.02
    flexibility: float = 0.002
    separation: float = 0.002
    reach: float = 0.1
    bottleneck: float = 0.0001
    contrastive: float = 0.002
    depth_cost: float = 0.001


@dataclass(frozen=True, eq=False)
class Trace:
    """What a pass went through, each float32 [batch, steps, ...].

    logits     [words]                     latents   by level, [width]
    expected   by level, s, [width]        messages  by level from 1 on, [width]
    gates      by level, [width]           depths    [levels - 1]
    """

    logits: torch.Tensor
    latents: list[torch.Tensor]
    expected: list[torch.Tensor]
    messages: list[torch.Tensor]
    gates: list[torch.Tensor]
    depths: torch.Tensor


class WorldModel(Phantom):
    """See the module's first lines. `active` is how many levels take part: the curriculum adds them one after the other."""

    identity = Identity(
        name="world-model",
        title="World model",
        step_axis="token",
        outputs="logits",
        metric="logit of the target word minus logit of the foil, at the chosen token",
        examples=(
            "in seoul . greets barista while waits about recipe at espresso in",
            "in paris at train . waits about song while yawns at ticket ¶ at sofa about guitar",
            "in rio at pond about goal while laughs about referee . while jokes about team in samba",
            "in cairo at vendor about spice while pays . about dinner while counts in nile § in seoul at desk",
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        width, n = config.width, len(LEVELS)
        self.active = n
        self.embed = nn.Embedding(len(WORDS), width)
        self.bottom_up = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(n - 1))
        self.candidate = nn.ModuleList(nn.Linear(width, width) for _ in range(n))
        self.clock = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(n if config.learned_clocks else 0))
        self.predictor = nn.ModuleList(nn.Linear(width, width) for _ in range(n))
        self.bag = nn.ModuleList(nn.Linear(width, len(own)) for own in OWN)
        self.top_down = nn.ModuleList(
            nn.Linear(width, width, bias=False) for _ in range(n - 1 if config.top_down else 0)
        )
        self.depth = nn.Linear(width, n - 1)
        self.decoder = nn.ModuleList(nn.Linear(width, len(WORDS), bias=level == 0) for level in range(n))
        for clock in self.clock:
            nn.init.constant_(clock.get_parameter("bias"), START)
        self.register_buffer("probe_accuracy", torch.zeros(n, n))
        self.hook_embed, self.hook_depth = HookPoint(), HookPoint()
        self.hook_message = nn.ModuleList(HookPoint() for _ in range(n - 1))
        self.hook_clock = nn.ModuleList(HookPoint() for _ in range(len(self.clock)))
        self.hook_latent = nn.ModuleList(HookPoint() for _ in range(n))
        self.hook_expected = nn.ModuleList(HookPoint() for _ in range(n))
        self.hook_top_down = nn.ModuleList(HookPoint() for _ in range(len(self.top_down)))
        self.hook_vote = nn.ModuleList(HookPoint() for _ in range(n))
        self.setup()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Logits of the next word, float32 [batch, steps, words], after each of the tokens int64 [batch, steps]."""
        return self.unroll(tokens).logits

    def unroll(self, tokens: torch.Tensor) -> Trace:
        """A pass over tokens int64 [batch, steps] from the start of a discourse, with all that it went through."""
        width, n = self.config.width, self.active
        silent = torch.zeros(len(tokens), width, device=tokens.device)
        latents, above = [silent] * n, [silent] * n
        kept: dict[str, list[list[torch.Tensor]]] = {"h": [], "s": [], "m": [], "g": []}
        logits, depths = [], []
        noise = self.config.noise if self.training else 0.0
        embedded = self.embed(tokens)
        for step in range(tokens.shape[1]):
            message = self.hook_embed(embedded[:, step])
            messages: list[torch.Tensor] = []
            gates: list[torch.Tensor] = []
            updated: list[torch.Tensor] = []
            for level in range(n):
                if level:
                    added = torch.tanh(self.bottom_up[level - 1](torch.cat([message, updated[-1]], -1)))
                    message = self.hook_message[level - 1](message + added)
                    messages.append(message)
                    if noise:
                        message = message + noise * torch.randn_like(message)
                gate = self._gate(level, message, latents[level], above[level])
                gates.append(gate)
                renewed = torch.lerp(latents[level], torch.tanh(self.candidate[level](message)), gate)
                updated.append(self._grouped(level, renewed))
            latents = updated
            depth = self.hook_depth(torch.sigmoid(self.depth(latents[0])))
            expected, above = [silent] * n, [silent] * n
            spoken: list[torch.Tensor] = []
            for level in reversed(range(n)):
                if level < n - 1 and self.config.top_down:
                    below = depth[:, level : level + 1] * self.top_down[level](expected[level + 1])
                    above[level] = self.hook_top_down[level](below)
                expectation = torch.tanh(self.predictor[level](latents[level]) + above[level])
                expected[level] = self.hook_expected[level](expectation)
                vote = self.decoder[level](expected[level])
                spoken.append(self.hook_vote[level](depth[:, level - 1 : level] * vote if level else vote))
            logits.append(torch.stack(spoken).sum(0))
            depths.append(depth)
            for name, values in zip("hsmg", (latents, expected, messages, gates), strict=True):
                kept[name].append(values)
        by_level = {name: [torch.stack(steps, 1) for steps in zip(*kept[name], strict=True)] for name in "hsmg"}
        return Trace(
            torch.stack(logits, 1),
            by_level["h"],
            by_level["s"],
            by_level["m"],
            by_level["g"],
            torch.stack(depths, 1)[..., : n - 1],
        )

    def predictions(self, **inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """Logits of the next word, and each level's log probabilities of its own words."""
        trace = self.unroll(**inputs)
        return (trace.logits, *self.bags(trace))

    def bags(self, trace: Trace) -> list[torch.Tensor]:
        """Each level's prediction of its own words, log probabilities [batch, steps, words of the level]."""
        return [bag(expected).log_softmax(-1) for bag, expected in zip(self.bag, trace.expected, strict=False)]

    def _gate(self, level: int, *seen: torch.Tensor) -> torch.Tensor:
        least = self.config.least[level]
        if not self.config.learned_clocks:
            start = 1 / (1 + float(np.exp(-START)))
            return torch.full_like(seen[0], least + (1 - least) * start)
        share = torch.sigmoid(self.clock[level](torch.cat(seen, -1)))
        return self.hook_clock[level](least + (1 - least) * share)

    def _grouped(self, level: int, latent: torch.Tensor) -> torch.Tensor:
        return self.hook_latent[level](latent.unflatten(-1, (-1, self.config.group))).flatten(-2)

    @cached_property
    def parts(self) -> Sequence[Part]:
        """Embedding; up: message, clock, latent in groups, by level; depth; down: top-down, predictor, decoder, by level."""
        n, groups = len(LEVELS), self.config.width // self.config.group
        parts = [Part("embed", -1, -1, "hook_embed")]
        for level in range(n):
            if level:
                parts.append(Part("bottom_up", level, 0, f"hook_message.{level - 1}"))
            if self.config.learned_clocks:
                parts.append(Part("clock", level, 0, f"hook_clock.{level}"))
            parts.extend(Part("latent", level, group, f"hook_latent.{level}", group) for group in range(groups))
        parts.extend(Part("depth", level + 1, 0, "hook_depth", level, scalar=True, rate=True) for level in range(n - 1))
        for level in reversed(range(n)):
            if level < n - 1 and self.config.top_down:
                parts.append(Part("top_down", level, 0, f"hook_top_down.{level}"))
            parts.append(Part("predictor", level, 0, f"hook_expected.{level}"))
            parts.append(Part("decoder", level, 0, f"hook_vote.{level}"))
        return tuple(parts)

    @property
    def output_names(self) -> Sequence[str]:
        """The words."""
        return WORDS

    def weights(self, part: Part) -> Mapping[str, torch.Tensor]:
        """A part's own parameters; a predictor holds its level's prediction of its own words too."""

        def of(module: nn.Module, name: str) -> dict[str, torch.Tensor]:
            return {f"{key[0]}_{name}".replace("w_", "W_"): value for key, value in module.named_parameters()}

        if part.kind == "latent":
            rows = slice(part.index * self.config.group, (part.index + 1) * self.config.group)
            return {key: value[rows] for key, value in of(self.candidate[part.layer], "candidate").items()}
        if part.kind == "embed":
            return of(self.embed, "E")
        if part.kind == "decoder":
            return of(self.decoder[part.layer], "U")
        if part.kind == "depth":
            return {key: value[part.layer - 1 : part.layer] for key, value in of(self.depth, "depth").items()}
        if part.kind == "bottom_up":
            return of(self.bottom_up[part.layer - 1], "bottom_up")
        if part.kind == "predictor":
            return of(self.predictor[part.layer], "predictor") | of(self.bag[part.layer], "bag")
        table = {"clock": self.clock, "top_down": self.top_down}
        return of(table[part.kind][part.layer], part.kind)

    def stimulus(self, text: str) -> Stimulus:
        """Words of the lexicon, capital letters allowed; ".", "¶" and "§" end a sentence, a paragraph, a discourse."""
        words = _words(text)
        if not words:
            raise InputError(f'The text is empty; write words of the lexicon, such as: "{self.identity.examples[0]}".')
        unknown = sorted({word for word in words if word not in TOKEN})
        if unknown:
            raise InputError(
                f"The world model does not know {', '.join(map(repr, unknown[:5]))}; its {len(WORDS)} words are listed "
                f'by its outputs, such as: "{self.identity.examples[0]}".'
            )
        if len(words) > LONGEST_TEXT:
            raise InputError(
                f"The text has {len(words)} words; the world model reads at most {LONGEST_TEXT}, shorten it."
            )
        ids = np.array([TOKEN[word] for word in words], dtype=np.int64)
        return Stimulus(text, ids, tuple(words), np.zeros(len(words), bool))

    def inputs(self, stimulus: Stimulus) -> dict[str, torch.Tensor]:
        """The tokens as a batch of one."""
        return {"tokens": torch.as_tensor(stimulus.ids, dtype=torch.int64)[None]}

    def reference(self) -> Sequence[str]:
        """120 texts of 48 words of the corpus, of a seed that training uses."""
        tokens = sample(Hierarchy(), 120, 48, seed=0).tokens
        return tuple(" ".join(WORDS[token] for token in row) for row in tokens)

    def answer_key(self) -> Sequence[Truth]:
        """Which level holds which hidden variable, by the trainer's probes on held-out text (kept with the weights).

        A level holds its variable where its probe is right in `HELD` of the tokens. Others may hold it too; each statement
        says how well the best of them does.
        """
        truths = []
        for level, (name, hidden) in enumerate(zip(DEPTHS, LEVELS, strict=True)):
            shares = self.probe_accuracy[:, level].tolist()
            if shares[level] < HELD:
                continue
            other = max((number for number in range(len(DEPTHS)) if number != level), key=shares.__getitem__)
            truths.append(
                Truth(
                    f"{hidden} in the {name} level",
                    f"The {name} level's latent names the {hidden}: a linear probe is right in {100 * shares[level]:.1f} % of "
                    f"held-out tokens at which the ideal observer is sure; on the {DEPTHS[other]} level, the best of the "
                    f"others, in {100 * shares[other]:.1f} %.",
                    tuple(f"latent.{level}.{group}" for group in range(self.config.width // self.config.group)),
                    "training",
                )
            )
        return tuple(truths)


def _words(text: str) -> list[str]:
    """Lower-case words; a mark is a word of its own even where it touches one."""
    for mark in ".¶§":
        text = text.replace(mark, f" {mark} ")
    return text.lower().split()
