"""The network of `tests.phantoms.tiny` written down a second time, in NumPy and float64, without hook points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.phantoms.tiny import GROUPS, UNITS, WIDTH, WORDS, Tiny

Touch = Callable[[str, int, np.ndarray], np.ndarray]
"""Takes the name of a site, the step (0 for what acts once) and what passes; returns what goes on."""


def untouched(site: str, step: int, value: np.ndarray) -> np.ndarray:
    """What passes, as it is."""
    return value


def forward(phantom: Tiny, text: str, touch: Touch = untouched) -> np.ndarray:
    """Outputs float64 [steps, 5] of one sentence."""
    w = {name: parameter.detach().double().numpy() for name, parameter in phantom.named_parameters()}
    squash = (lambda x: x) if phantom.config.linear else np.tanh
    words = [WORDS.index(word) for word in text.split()]
    read = touch("hook_encoder", 0, w["w_embed"][words])
    seen = touch("hook_detector", 0, squash(read @ w["w_detect"].T))
    pooled = touch("hook_pool", 0, np.concatenate([read, seen], axis=1).mean(axis=0) @ w["w_pool"].T)
    units, groups, outputs = np.zeros(UNITS), np.zeros((GROUPS, WIDTH)), []
    for step, word in enumerate(words):
        given = np.concatenate([w["w_embed"][word], pooled, units, groups.ravel()])
        units = touch("hook_units", step, squash(w["w_unit"] @ given + w["b_unit"]))
        groups = touch("hook_groups", step, squash(np.stack([each @ units for each in w["w_group"]])))
        outputs.append(touch("hook_readout", step, w["w_out"] @ np.concatenate([units, groups.ravel()])))
    return np.stack(outputs)


def kept(phantom: Tiny, text: str) -> dict[str, list[np.ndarray]]:
    """What passes each site, in the order of the steps."""
    found: dict[str, list[np.ndarray]] = {}

    def keep(site: str, step: int, value: np.ndarray) -> np.ndarray:
        found.setdefault(site, []).append(value.copy())
        return value

    forward(phantom, text, keep)
    return found


def with_part(phantom: Tiny, row: int, change: Callable[[int, np.ndarray], np.ndarray]) -> Touch:
    """A touch of one part: `change(step, its values)`, [entries, width] for what acts once, else [width]."""
    part = phantom.parts[row]

    def touch(site: str, step: int, value: np.ndarray) -> np.ndarray:
        if site != part.site:
            return value
        changed = value.copy()
        where = (..., part.column) if part.scalar else (part.column,)
        if part.column is None:
            return change(step, value)
        changed[where] = change(step, value[where])
        return changed

    return touch
