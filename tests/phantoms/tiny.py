"""Two tiny phantoms with parts of every form that `nmri3d.phantoms.phantom` allows, for tests that measure.

A sentence of the words a to e is read twice: whole, before the first step (an encoder over all words, three detectors, a
pool), and word by word, one a step, by eight recurrent units and two groups of three. `TinySignal` is the same network with
its outputs as signals.

    encoder   once a pass, inner axis, whole           [batch, words, 4]
    detector  once a pass, inner axis, scalar columns  [batch, words, 3]
    pool      once a pass, whole                       [batch, 4]
    unit      once a step, scalar columns              [batch, 8]
    group     once a step, columns of width 3          [batch, 2, 3]
    readout   once a step, whole                       [batch, 5]: the outputs themselves

Planted: output "e" reads unit 3 and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.errors import InputError
from nmri3d.models.backend import Stimulus
from nmri3d.phantoms.backend import PhantomBackend
from nmri3d.phantoms.phantom import Identity, Part, Phantom, Truth

WORDS = ("a", "b", "c", "d", "e")
UNITS, GROUPS, WIDTH = 8, 2, 3


@dataclass(frozen=True)
class Config:
    """`linear` leaves the squashing of units and groups out; `seed` makes the weights."""

    linear: bool = False
    seed: int = 0


class Tiny(Phantom):
    """See the module's first lines."""

    identity = Identity(
        name="tiny",
        title="Tiny",
        step_axis="task step",
        outputs="logits",
        metric="logit of the target minus logit of the foil",
        examples=("a b c", "d e a b", "b b e"),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Config()
        random = torch.Generator().manual_seed(self.config.seed)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=random) / shape[-1] ** 0.5)

        self.w_embed, self.w_detect, self.w_pool = weights(5, 4), weights(3, 4), weights(4, 7)
        self.w_unit, self.b_unit = weights(UNITS, 4 + 4 + UNITS + GROUPS * WIDTH), weights(UNITS)
        self.w_group = weights(GROUPS, WIDTH, UNITS)
        self.w_out = weights(5, UNITS + GROUPS * WIDTH)
        with torch.no_grad():
            self.w_out[4] = 0
            self.w_out[4, 3] = 2.0
        self.hook_encoder, self.hook_detector, self.hook_pool = HookPoint(), HookPoint(), HookPoint()
        self.hook_units, self.hook_groups, self.hook_readout = HookPoint(), HookPoint(), HookPoint()
        self.setup()

    @property
    def parts(self) -> tuple[Part, ...]:
        return (
            Part("encoder", 0, -1, "hook_encoder", once=True),
            *(Part("detector", 0, i, "hook_detector", i, scalar=True, once=True) for i in range(3)),
            Part("pool", 1, -1, "hook_pool", once=True, structure="hippocampus"),
            *(Part("unit", 2, i, "hook_units", i, scalar=True) for i in range(UNITS)),
            *(Part("group", -1, i, "hook_groups", i, structure="cerebellum") for i in range(GROUPS)),
            Part("readout", 3, -1, "hook_readout", structure="left"),
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        return WORDS

    def weights(self, part: Part) -> Mapping[str, torch.Tensor]:
        i = part.index
        return {
            "encoder": lambda: {"W_E": self.w_embed},
            "detector": lambda: {"W": self.w_detect[i]},
            "pool": lambda: {"W": self.w_pool},
            "unit": lambda: {"W": self.w_unit[i], "b": self.b_unit[i]},
            "group": lambda: {"W": self.w_group[i]},
            "readout": lambda: {"W": self.w_out},
        }[part.kind]()

    def stimulus(self, text: str) -> Stimulus:
        words = text.split()
        if not words or set(words) - set(WORDS):
            raise InputError(
                f"{text!r} is no sentence of the words {' '.join(WORDS)}; write some of them, such as 'a b c'"
            )
        ids = np.array([WORDS.index(word) for word in words], dtype=np.int64)
        return Stimulus(text, ids, tuple(words), np.zeros(len(ids), dtype=bool))

    def inputs(self, stimulus: Stimulus) -> dict[str, torch.Tensor]:
        return {"words": torch.from_numpy(stimulus.ids)[None]}

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        squash = (lambda x: x) if self.config.linear else torch.tanh
        read = self.hook_encoder(self.w_embed[words])
        seen = self.hook_detector(squash(read @ self.w_detect.T))
        pooled = self.hook_pool(torch.cat([read, seen], dim=-1).mean(dim=1) @ self.w_pool.T)
        units = read.new_zeros(len(words), UNITS)
        groups = read.new_zeros(len(words), GROUPS, WIDTH)
        outputs = []
        for step in range(words.shape[1]):
            given = torch.cat([self.w_embed[words[:, step]], pooled, units, groups.flatten(1)], dim=1)
            units = self.hook_units(squash(given @ self.w_unit.T + self.b_unit))
            groups = self.hook_groups(squash(torch.einsum("bu,gwu->bgw", units, self.w_group)))
            outputs.append(self.hook_readout(torch.cat([units, groups.flatten(1)], dim=1) @ self.w_out.T))
        return torch.stack(outputs, dim=1)

    def reference(self) -> Sequence[str]:
        random = np.random.default_rng(0)
        return [" ".join(random.choice(WORDS, size=random.integers(2, 7))) for _ in range(120)]

    def answer_key(self) -> Sequence[Truth]:
        return [Truth("output e", "output 'e' reads unit 3 and nothing else", ("unit.2.3",), "construction")]


class TinySignal(Tiny):
    """The same network, its outputs being signals."""

    identity = replace(
        Tiny.identity,
        name="tiny-signal",
        title="Tiny signal",
        outputs="signal",
        metric="value of the output named as target",
    )

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(f"{word} (mm)" for word in WORDS)


def tiny_phantom(*, linear: bool = False, signal: bool = False, seed: int = 0) -> PhantomBackend:
    """A backend that nobody else holds."""
    return PhantomBackend((TinySignal if signal else Tiny)(Config(linear, seed)), source="made in a test")
