"""BioHama: router, modules, working memory, hierarchical attention, Hebbian fast weights and messages, a task step at a time.

At each step of a program the network encodes it, attends to its past and to its modules, asks its fast weights what is bound to
what it holds, routes the step to a few modules, lets them change working memory and speak, passes messages between them,
and answers. No step is shown the answers before it, neither the right ones nor its own.

Convention. A pass is a program; a step is a task step. Outputs are logits over "-" (no answer is due) and the symbols. A unit
network: there is no residual stream. Modules are active (pre-gate) at every step; what the router lets through is in the gates.

Left out: training (`fitting`), few-shot adaptation (`fewshot`), modules that come and go (`growth`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.models.backend import Stimulus
from nmri3d.phantoms.biohama.anatomy import parts_of, weights_of
from nmri3d.phantoms.biohama.attention import HierarchicalAttention, Past
from nmri3d.phantoms.biohama.config import Config
from nmri3d.phantoms.biohama.encoder import MultiModalEncoder, SequenceMode
from nmri3d.phantoms.biohama.language import OPERATIONS, OUTPUTS, SYMBOLS, label, read, write
from nmri3d.phantoms.biohama.memory import AdaptiveWorkingMemory, WorkingMemory, address
from nmri3d.phantoms.biohama.messages import MessagePassing
from nmri3d.phantoms.biohama.modules import Modules
from nmri3d.phantoms.biohama.plasticity import Hebbian
from nmri3d.phantoms.biohama.routing import AdaptiveRouter
from nmri3d.phantoms.biohama.tasks import FAMILIES, programs
from nmri3d.phantoms.biohama.truth import RULES, truths
from nmri3d.phantoms.phantom import Identity, Part, Phantom, Truth

__all__ = ["BioHama", "Config", "Pass"]


class Pass(NamedTuple):
    """Logits [batch, steps, outputs]; the router's probabilities before they are cut, [batch, steps, modules]; how undecided
    memory's addresses are, [batch, steps]: blur of the wiring, plus s (1 - s) of the write strengths, mean over slots."""

    logits: torch.Tensor
    routes: torch.Tensor
    undecided: torch.Tensor


class Readout(nn.Module):
    """From memory, the modules' messages and what was retrieved to an answer; `hook_out` [batch, width]."""

    def __init__(self, width: int, slots: int, outputs: int) -> None:
        super().__init__()
        self.where = nn.Parameter(torch.eye(slots)[0])  # the slot that is handed out first
        self.hidden = nn.Linear(3 * width, 2 * width)
        self.out = nn.Linear(2 * width, outputs)
        self.hook_out = HookPoint()

    def forward(self, slots: torch.Tensor, said: torch.Tensor, retrieved: torch.Tensor) -> torch.Tensor:
        looked = torch.einsum("s,bsd->bd", address(self.where), slots)
        return self.out(self.hook_out(torch.relu(self.hidden(torch.cat([looked, said, retrieved], dim=1)))))


class BioHama(Phantom):
    """The integrated network. `lesions` and `own` [rules, modules] are its answer key: see `truth`."""

    identity: ClassVar[Identity] = Identity(
        name="biohama",
        title="BioHama",
        step_axis="task step",
        outputs="logits",
        metric="logit of the target answer minus that of the foil, at one task step",
        examples=(
            "put c a d b, reverse, turn, shift",
            "visit a d, lift, visit b a, at b, hop, hop, back",
            "red, see c, blue, see a, red, see b, gold, see d",
            "put h e a d, swap, turn, turn, reverse, shift, swap, turn, reverse",
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config: Config = config or Config()
        c = self.config
        steps = SequenceMode(len(OPERATIONS), 1 + len(SYMBOLS), c.width, OPERATIONS.index("zig"))
        self.encoder = MultiModalEncoder({"sequence": steps})
        self.attention = HierarchicalAttention(c.width, c.window, c.sparse, c.levels)
        self.router = AdaptiveRouter(c.width, c.modules, c.active, routed=c.routed)
        self.hebbian = Hebbian(
            c.width, c.slots, c.bindings, enabled=c.hebbian, stdp=c.stdp, consolidation=c.consolidation
        )
        self.pool = Modules(c.modules, c.slots, c.width, c.hidden)
        self.messages = MessagePassing(c.modules, c.width, c.hops)
        memory = AdaptiveWorkingMemory if c.adaptive_memory else WorkingMemory
        self.memory = memory(c.slots, c.width, c.prototypes)
        self.readout = Readout(c.width, c.slots, len(OUTPUTS))
        for name in ("lesions", "own"):
            self.register_buffer(name, torch.zeros(len(RULES), c.modules))
        self.lesions: torch.Tensor
        self.own: torch.Tensor
        self.setup()

    def forward(self, operations: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Logits [batch, steps, outputs] for operations and symbols, int64 [batch, steps]."""
        return self.run(operations, symbols).logits

    def run(self, operations: torch.Tensor, symbols: torch.Tensor, words: torch.Tensor | None = None) -> Pass:
        """A pass; `words` [batch, width] are the adaptive router's fast weights, the vector of "zig" for each program."""
        encoded = self.encoder("sequence", operations, symbols, words)
        batch, steps, width = encoded.shape
        slots, usage = self.memory.fresh(batch)
        synapses = self.hebbian.fresh(batch)
        states = encoded.new_zeros(batch, self.config.modules, width)
        said = encoded.new_zeros(batch, width)
        past = Past()
        logits, routes, undecided = [], [], []
        for t in range(steps):
            step = self.encoder.hook_out(encoded[:, t])
            context = self.attention(step, states, past)
            retrieved = self.hebbian.retrieve(slots, said, synapses)
            synapses = self.hebbian.learn(step, synapses)
            gates, probabilities = self.router(step, context)
            proposed = self.pool(slots, torch.cat([step, retrieved], dim=1), self.memory.allocate(step, usage))
            nodes = self.messages(proposed.says + states)
            states = self.messages.settle(states, nodes, gates)
            change = torch.einsum("bm,bmsd->bsd", gates, proposed.changes)
            strength = torch.einsum("bm,bms->bs", gates, proposed.strengths)
            slots, usage = self.memory.write(slots, usage, change, strength, step)
            said = torch.einsum("bm,bmd->bd", gates, nodes)
            logits.append(self.readout(slots, said, retrieved))
            routes.append(probabilities)
            undecided.append((gates * proposed.blur).sum(dim=1) + (strength * (1 - strength)).mean(dim=1))
        return Pass(*(torch.stack(each, dim=1) for each in (logits, routes, undecided)))

    @property
    def words(self) -> nn.Parameter:
        """Vectors of the operations, [operations, width]."""
        return self.encoder.modes["sequence"].operation.weight  # type: ignore[union-attr,return-value]

    @property
    def parts(self) -> Sequence[Part]:
        return parts_of(self.config)

    @property
    def output_names(self) -> Sequence[str]:
        return OUTPUTS

    def weights(self, part: Part) -> Mapping[str, torch.Tensor]:
        return weights_of(self, part)

    def stimulus(self, text: str) -> Stimulus:
        """Read a program, "put c a, reverse". Raises InputError for what is none."""
        steps = read(text)
        ids = [OPERATIONS.index(o) * (1 + len(SYMBOLS)) + (0 if s is None else 1 + SYMBOLS.index(s)) for o, s in steps]
        return Stimulus(
            text=text,
            ids=np.array(ids, np.int64),
            labels=tuple(label(step) for step in steps),
            special=np.zeros(len(steps), bool),
        )

    def inputs(self, stimulus: Stimulus) -> dict[str, torch.Tensor]:
        """Operations and symbols, each [1, steps]."""
        ids = torch.from_numpy(np.asarray(stimulus.ids, np.int64))[None]
        return {"operations": ids // (1 + len(SYMBOLS)), "symbols": ids % (1 + len(SYMBOLS))}

    def reference(self) -> Sequence[str]:
        """180 programs of the training split, 60 of each family."""
        random = np.random.default_rng(0)
        return [write(program) for family in FAMILIES for program in programs(family, "training", 60, random)]

    def answer_key(self) -> Sequence[Truth]:
        return truths(
            self.lesions.cpu().numpy(), self.own.cpu().numpy(), {part.kind: part.layer for part in self.parts}
        )
