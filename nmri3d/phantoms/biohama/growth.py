"""Modules that come and go, in a new network that leaves the given one as it is, and modules that specialize, in place.

Convention. A network of other modules is the old one with its modules listed anew: `[0, 1, 2, 2]` doubles the last of three. So
adding is copying (with a little noise, so that the copy can go its own way), removing is leaving out, and order means nothing.
A copy shares its source's place: what the router gave the source, and how much others listen to it, is halved between the two.
What changes is the cut: where source and copy are both among the `active` modules, there is no room for the next one. A changed
network has no answer key until what `truth.measure` finds in it is put there.

Specializing trains one module, its gate and the word "zig" (which starts as a known word) on programs in which "zig" is an
operation that no module can do, mixed with known programs, so that the gate learns to stay shut there; all else is frozen.

Left out: when to add or remove (that is the experimenter's decision).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Progress
from nmri3d.phantoms.biohama.fewshot import NEW, episode
from nmri3d.phantoms.biohama.fitting import TrainingSet, loss_of
from nmri3d.phantoms.biohama.language import OPERATIONS
from nmri3d.phantoms.biohama.model import BioHama

_ZIG = OPERATIONS.index("zig")
_COPY_NOISE = 0.02


def with_module(network: BioHama, source: int, seed: int = 0) -> BioHama:
    """One module more, the last: a copy of `source` and of its gate, slightly changed."""
    grown = _listed(network, [*range(network.config.modules), source])
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in grown.pool.parameters():
            parameter[-1] += _COPY_NOISE * torch.randn(parameter[-1].shape, generator=noise)
        for twins in (source, -1):
            grown.router.out.bias[twins] -= math.log(2)
            grown.messages.listens[:, :, twins] -= math.log(2)
    return grown


def without_module(network: BioHama, module: int) -> BioHama:
    """One module less. Raises InputError for the last that could be active."""
    if network.config.modules == network.config.active:
        raise InputError(f"BioHama lets {network.config.active} modules through and has no more; lower `active` first")
    return _listed(network, [other for other in range(network.config.modules) if other != module])


def specialize(
    network: BioHama,
    module: int,
    like: str,
    updates: int,
    random: np.random.Generator,
    progress: Progress,
    rate: float = 5e-3,
) -> None:
    """Train one module, its gate and the word "zig" on an operation that is new, in place; all else stays as it is.

    like   the known operation as which the word starts
    """
    own = [*network.pool.parameters(), *network.router.out.parameters()]
    word = network.words
    with torch.no_grad():
        word[_ZIG] = word[OPERATIONS.index(like)]
    known = TrainingSet(1_000, random)
    new = episode(NEW, 2_000, "training", random)
    optimizer = torch.optim.Adam([*own, word], lr=rate)  # without a gradient it moves nothing
    for update in range(updates):
        data = known.draw(24, 1.0) if update % 2 else new.take(random.integers(len(new), size=24))
        gradients = torch.autograd.grad(loss_of(network, data), [*own, word])
        optimizer.param_groups[0]["lr"] = rate * (1 - update / updates)
        for parameter, gradient in zip(own, gradients[:-1], strict=True):
            parameter.grad = torch.zeros_like(parameter)
            parameter.grad[module] = gradient[module]
        word.grad = torch.zeros_like(word)
        word.grad[_ZIG] = gradients[-1][_ZIG]
        torch.nn.utils.clip_grad_norm_([*own, word], 1.0)
        optimizer.step()
        if update % 20 == 0:
            progress(update / updates, f"specializing, update {update} of {updates}")
    _forget_key(network)


def _listed(network: BioHama, order: Sequence[int]) -> BioHama:
    changed = BioHama(replace(network.config, modules=len(order)))
    state = network.state_dict()
    for name, value in state.items():
        if name.startswith(("pool.", "router.out.")):
            state[name] = value[list(order)]
        elif name == "messages.listens":
            state[name] = value[:, list(order)][:, :, list(order)]
        elif name in ("lesions", "own"):
            state[name] = value[:, list(order)]
    changed.load_state_dict(state)
    _forget_key(changed)
    return changed.eval()


def _forget_key(network: BioHama) -> None:
    network.lesions.zero_()
    network.own.zero_()
