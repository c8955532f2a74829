"""What the tests of this folder share: prompts, models side by side, tolerances."""

from functools import cache

import numpy as np
import pytest

from nmri3d.models.transformer_lens import TransformerLensBackend
from tests.models.backends import tiny_backend, tiny_checkpoint
from tests.models.tiny import FAMILIES
from tests.perturbation.plain import Plain

CLEAN = "Mary gave 4 drink to John and the store"
CORRUPT = "Mary gave 7 drink to John and the store"
"""Equally many tokens (15, or 16 with BOS), one of them different: the fifth (sixth)."""

OTHER = "John gave 7 drink to Mary and the store"
"""Equally many tokens, several of them different, the first among them."""

families = pytest.mark.parametrize("family", FAMILIES)


@cache
def plain(family: str) -> Plain:
    """Plain Hugging Face: another instance of the same weights."""
    return Plain(tiny_checkpoint(family).hf_model, family)


def both(family: str) -> tuple[TransformerLensBackend, Plain]:
    return tiny_backend(family), plain(family)


def top_two(logits: np.ndarray) -> tuple[int, int]:
    """The likeliest token and the runner-up."""
    order = np.argsort(-np.asarray(logits), kind="stable")
    return int(order[0]), int(order[1])


def hooks_left(model) -> int:
    """Hooks that still hang on the modules of a Hugging Face model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
