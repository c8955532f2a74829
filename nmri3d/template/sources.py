"""What a layout compares components by: the model's weights, or what is active together over the reference text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nmri3d.errors import InputError

SOURCES = ("weights", "functional")


def layout_features(
    model: Any, source: str, progress: Callable[[float, str], None] = lambda share, what: None
) -> np.ndarray | None:
    """Features for `Atlas.build`, float32 [components, k]; None for "weights", which the model itself gives.

    Raises InputError for an unknown source, and what `functional_features` raises.
    """
    if source not in SOURCES:
        raise InputError(f"components are compared by one of {', '.join(SOURCES)}, not by {source!r}")
    if source == "weights":
        return None
    from nmri3d.template.functional import functional_features

    return functional_features(model, progress)
