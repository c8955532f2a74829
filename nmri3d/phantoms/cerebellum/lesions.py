"""Taking one function away: after training to see what it contributes (a lesion), or before it (an ablation).

A lesion silences activities by permanent hooks and changes no weight; `without` gives a fresh copy, so that the network itself
stays whole.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from nmri3d.phantoms.cerebellum.config import FUNCTIONS
from nmri3d.phantoms.cerebellum.model import Cerebellum

WHAT = {
    "prediction": "predictive feed-forward",
    "trial": "trial-to-trial correction",
    "variance": "variance reduction",
    "memory": "memory-based adaptation",
    "learning": "climbing-fiber learning",
    "cerebellum": "the whole cerebellum (hippocampus alone)",
    "correction": "every correction",
}
"""What can be taken away, in words."""


def without(network: Cerebellum, what: str) -> Cerebellum:
    """A copy of the network in which `what`, a key of WHAT, is silent for good."""
    damaged = copy.deepcopy(network)
    circuit = damaged.circuit
    if what in FUNCTIONS:
        kept = circuit.purkinje_function != FUNCTIONS.index(what)
        circuit.hook_purkinje.add_hook(lambda tensor, hook: tensor * kept, is_permanent=True)
    else:
        point = {
            "memory": damaged.hippocampus.hook_bias,
            "learning": circuit.hook_climbing,
            "cerebellum": circuit.hook_nucleus,
            "correction": damaged.hook_motor,
        }[what]
        point.add_hook(_silence, is_permanent=True)
    return damaged


def _silence(tensor: torch.Tensor, hook: Any) -> torch.Tensor:
    return torch.zeros_like(tensor)
