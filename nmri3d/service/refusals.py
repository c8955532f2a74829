"""What a loaded network cannot serve, and why: the sentences that a measurement itself would answer, told beforehand.

Left out: the sentences, which are those of `nmri3d.models.residual_backend`, and what depends on a request's options.
"""

from __future__ import annotations

from nmri3d.models.backend import Backend
from nmri3d.models.residual_backend import NEEDS_RESIDUAL, refusal

FEATURES = (*NEEDS_RESIDUAL, "neurons")


def refusals(backend: Backend) -> dict[str, str]:
    """A sentence for every feature that the network cannot serve; empty for most language models."""
    found = {feature: refusal(backend, feature) for feature in FEATURES}
    return {feature: sentence for feature, sentence in found.items() if sentence is not None}
