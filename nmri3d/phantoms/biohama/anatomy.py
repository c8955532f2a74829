"""The parts of BioHama in the order in which they act at a step, and whose each parameter is.

Convention. The depth of a part is its place in the order within a step. Fast weights lie in the hippocampi, all else on the
cortex. A gate is a unit of the router, one a module; a slot is a vector; a module is its change of memory and what it says.

Left out: what the parts do (their own files).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from nmri3d.phantoms.biohama.attention import LEVELS
from nmri3d.phantoms.biohama.config import Config
from nmri3d.phantoms.phantom import Part

if TYPE_CHECKING:
    from nmri3d.phantoms.biohama.model import BioHama


def parts_of(config: Config) -> Sequence[Part]:
    """The parts of a network of this configuration."""
    return (
        Part("encoder", 0, 0, "encoder.hook_out"),
        *(Part("attention", 1, i, "attention.hook_levels", column=i) for i in range(len(LEVELS))),
        Part("fusion", 1, 0, "attention.hook_fused"),
        Part("hebbian", 2, 0, "hebbian.hook_retrieved", structure="hippocampus"),
        Part("router", 3, 0, "router.hook_hidden"),
        *(Part("gate", 3, i, "router.hook_gates", column=i, scalar=True, rate=True) for i in range(config.modules)),
        *(Part("module", 4, i, "pool.hook_out", column=i) for i in range(config.modules)),
        *(Part("message", 5, i, f"messages.hooks.{i}") for i in range(config.hops)),
        Part("memory", 6, 0, "memory.hook_write"),
        *(Part("slot", 6, i, "memory.hook_slots", column=i) for i in range(config.slots)),
        Part("readout", 7, 0, "readout.hook_out"),
    )


def weights_of(network: BioHama, part: Part) -> Mapping[str, torch.Tensor]:
    """A part's own parameters, as views; over all parts each entry once."""
    match part.kind:
        case "encoder":
            return dict(network.encoder.named_parameters())
        case "attention":
            return dict(network.attention.levels[LEVELS[part.index]].named_parameters())
        case "fusion":
            return dict(network.attention.fusion.named_parameters())
        case "hebbian":
            return dict(network.hebbian.named_parameters())
        case "router":
            return dict(network.router.hidden.named_parameters())
        case "gate":
            return _entries(network.router.out, part.index)
        case "module":
            return _entries(network.pool, part.index)
        case "message":
            return {"listens": network.messages.listens[part.index]} | dict(
                network.messages.hear[part.index].named_parameters()
            )
        case "slot":
            return {"start": network.memory.start[part.index]}
        case "memory":
            return {name: value for name, value in network.memory.named_parameters() if name != "start"}
    return dict(network.readout.named_parameters())


def _entries(module: nn.Module, index: int) -> dict[str, torch.Tensor]:
    return {name: value[index] for name, value in module.named_parameters()}
