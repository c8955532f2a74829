"""Options of a DTI scan."""

from __future__ import annotations

from dataclasses import dataclass

from nmri3d.errors import InputError
from nmri3d.models.checks import require_choice
from nmri3d.perturbation.baselines import EFFECTS

METHODS = ("auto", "exact", "atp", "dla")
EDGES = ("eap", "eap-ig", "none")

AFFORDABLE = 8.0
"""Seconds that an exact sweep may take for "auto" to choose it."""


@dataclass(frozen=True, kw_only=True)
class DtiConfig:
    """Options of a DTI scan.

    corrupt       corrupted (counterfactual) prompt of equally many tokens
    target, foil  token as text or id; None: the likeliest next token, and the runner-up
    position      whose next token the metric is about
    method, effect, edges   see `nmri3d.scans.dti`; edges None: "eap" where there is a residual stream, else "none"
    steps         of EAP-IG
    share         of the total |score| that the drawn circuit carries
    """

    corrupt: str | None = None
    target: str | int | None = None
    foil: str | int | None = None
    position: int = -1
    method: str = "auto"
    effect: str | None = None
    edges: str | None = None
    steps: int = 5
    share: float = 0.5

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)
        if self.edges is not None:
            require_choice("edges", self.edges, EDGES)
        if self.effect is not None:
            require_choice("effect", self.effect, EFFECTS)
        if self.edges == "eap-ig" and self.corrupt is None:
            raise InputError(
                "EAP-IG integrates from a corrupted prompt to the clean one; give one (corrupt=…), or use eap"
            )
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 100:
            raise InputError(f"steps is a whole number from 1 to 100, got {self.steps!r}")
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InputError(f"share lies above 0 and is at most 1, got {self.share!r}")
