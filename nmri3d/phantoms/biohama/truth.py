"""The answer key: which module does what, measured by silencing modules while the network runs, without any scan.

Convention. A rule is what a step that is answered asks for: an operation, or "see" under a cue. Two tables [rules, modules], on
the in-distribution programs that the network was not trained on, both the accuracy lost at answers of that rule:

    lesions  module silenced at all steps (what the rule depends on: loading the list, say, as well as reversing it)
    own      module silenced only at the steps of that rule, and only these answers counted (what carries the rule out)

Silenced means that its activation is zero: it changes nothing and says nothing.

Left out: scans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nmri3d.phantoms.biohama.language import LIST_OPERATIONS, MOVES, Step, rule_of
from nmri3d.phantoms.biohama.tasks import FAMILIES, Batch, Family, batch, programs
from nmri3d.phantoms.phantom import Truth

if TYPE_CHECKING:
    from nmri3d.phantoms.biohama.model import BioHama

SEEN = ("see/red", "see/blue", "see/gold")
RULES = (*LIST_OPERATIONS, *MOVES, *SEEN)
FAMILY_OF: dict[str, Family] = {
    **dict.fromkeys(LIST_OPERATIONS, "composition"),
    **dict.fromkeys(MOVES, "chains"),
    **dict.fromkeys(SEEN, "context"),
}

NEEDED = 0.3
"""Accuracy that a rule loses when a module that it needs is silenced; fixed before any network was measured."""


def measure(network: BioHama, n: int = 300, seed: int = 77) -> tuple[np.ndarray, np.ndarray]:
    """The tables `lesions` and `own`, float32 [rules, modules], from n programs a family."""
    lesions, own = np.zeros((2, len(RULES), network.config.modules), np.float32)
    for family, drawn in measured_on(n, seed).items():
        data = batch(drawn)
        rules = np.full(data.operations.shape, -1)
        for row, program in enumerate(drawn):
            for column, rule in enumerate(rule_of(program)):
                if data.answers[row, column] >= 0:
                    rules[row, column] = RULES.index(rule)
        whole = _right(network, data, None, None)
        for module in range(network.config.modules):
            silenced = _right(network, data, module, None)
            for number, name in enumerate(RULES):
                if FAMILY_OF[name] == family:
                    asked = rules == number
                    alone = _right(network, data, module, asked)
                    lesions[number, module] = whole[asked].mean() - silenced[asked].mean()
                    own[number, module] = whole[asked].mean() - alone[asked].mean()
    return lesions, own


def measured_on(n: int = 300, seed: int = 77) -> dict[Family, list[tuple[Step, ...]]]:
    """The programs on which `measure` measures, by family."""
    random = np.random.default_rng(seed)
    return {family: programs(family, "in-dist", n, random) for family in FAMILIES}


def _right(network: BioHama, data: Batch, module: int | None, where: np.ndarray | None) -> np.ndarray:
    """Whether each answer is right, bool [programs, steps], with a module silenced (at the marked steps, or at all)."""
    step = -1

    def silence(activation: torch.Tensor, hook: object) -> torch.Tensor:
        nonlocal step
        step += 1
        changed = activation.clone()
        rows = slice(None) if where is None else torch.from_numpy(where[:, step])
        changed[rows, module] = 0
        return changed

    hooks = [] if module is None else [("pool.hook_out", silence)]
    with torch.no_grad(), network.hooks(fwd_hooks=hooks):
        logits = network(torch.from_numpy(data.operations), torch.from_numpy(data.symbols))
    return logits.argmax(dim=2).numpy() == data.answers


def truths(lesions: np.ndarray, own: np.ndarray, layer: dict[str, int]) -> tuple[Truth, ...]:
    """What the tables say: the modules that each rule needs, and the one that carries it out. Empty for untrained weights."""
    found: list[Truth] = []
    for number, name in enumerate(RULES):
        needed = np.flatnonzero(lesions[number] >= NEEDED)
        if len(needed):
            found.append(
                Truth(
                    f"modules needed for {name}",
                    f"Silencing one of these costs {name!r} at least {NEEDED:.0%} of its answers.",
                    tuple(f"module.{layer['module']}.{i}" for i in needed),
                    "intervention",
                )
            )
        leading = int(own[number].argmax())
        if own[number, leading] >= NEEDED:
            found.append(
                Truth(
                    f"module of {name}",
                    f"Silenced at its own steps alone, this module costs {name!r} {own[number, leading]:.0%} of its answers, "
                    "more than any other.",
                    (f"module.{layer['module']}.{leading}", f"gate.{layer['gate']}.{leading}"),
                    "intervention",
                )
            )
    return tuple(found)
