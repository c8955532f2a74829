"""Options of a FLAIR scan, with a logit lens and without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from nmri3d.errors import InputError
from nmri3d.models.checks import require_choice
from nmri3d.perturbation.edits import Edit
from nmri3d.template.lens import SITES

TEMPLATES = ("auto", "ready", "off")


@dataclass(frozen=True, kw_only=True)
class FlairConfig:
    """Options of a FLAIR scan.

    alpha, beta   weights of KL and entropy in the score, not negative, not both 0
    sites         of "attn" and "mlp": which points to look at; components of the others are NaN
    layers        None for all; negative numbers count from the end
    positions     None for all
    enabled_from  first layer that counts in the summary; None: half way
    template      "auto" builds it where there is none yet (about a minute), "ready" uses it where there is one, "off" never
    edits         under which the prompt is run

    A network without a lens knows layers, positions, template and edits alone.
    """

    alpha: float = 0.6
    beta: float = 0.4
    sites: Sequence[str] = SITES
    layers: Sequence[int] | None = None
    positions: Sequence[int] | None = None
    enabled_from: int | None = None
    template: str = "auto"
    edits: Sequence[Edit] = ()

    def __post_init__(self) -> None:
        require_choice("template", self.template, TEMPLATES)
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value < math.inf):
                raise InputError(f"{name} is a weight, a number from 0 on; got {value!r}")
        if self.alpha + self.beta == 0:
            raise InputError("alpha and beta are both 0, so there is nothing to score; give one of them a weight")
        for name in ("sites", "layers", "positions"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
                raise InputError(f"{name} is a list, got {value!r}")
            object.__setattr__(self, name, tuple(value))
            if not getattr(self, name):
                raise InputError(f"{name} is an empty list, so there is nothing to scan; leave it out for all")
        for site in self.sites:
            require_choice("a site", site, SITES)
        object.__setattr__(self, "edits", tuple(self.edits))

    def require_only(self, *names: str, of: str) -> None:
        """Raise InputError where an option beside these was set."""
        for field in fields(self):
            if field.name not in names and getattr(self, field.name) != field.default:
                raise InputError(f"FLAIR of {of} has no {field.name}, since it has no logit lens; leave it out")
