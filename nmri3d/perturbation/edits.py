"""Edits: what is done to a component's write, a neuron's or a part's activation, or the residual stream during one pass.

Convention. An edit acts on the value v that passes at the chosen positions, of length d_model (a neuron: one number; a part of
a unit network: as many as it has units):

    zero     0                      noise   v + sigma * s * n, n ~ N(0, 1) seeded, s the std of v over the template, per entry
    amplify  factor * v             ablate  the template's mean of v
    invert   -v                     inject  the given values
                                    patch   v as it is on another prompt

Edits stack in the order given. They are hooks of one pass and touch no weight. A post-norm keeps the scale that it has
without the edit. The template's mean is that of positions 1 and on, so "ablate" leaves position 0 alone unless it is
asked for by number (the first token is an attention sink: its writes are of another size), and then takes the mean of
position 0 (a neuron: the pooled one, the template holds no other). A unit network has no such sink: "ablate" acts at every
step, at step 0 with the mean of step 0. A part that acts once a pass is edited where its step 0 is, in all its entries.
Residual sites are named as in TransformerLens: `blocks.5.hook_resid_pre`, `blocks.5.hook_resid_mid`, `hook_resid_final`.

Left out: edits of weights, of attention patterns, and of queries and keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, EditTarget, Progress, SiteEdit, Stimulus, no_progress
from nmri3d.models.checks import require_indices
from nmri3d.models.edit_targets import stream_point
from nmri3d.models.residual_backend import require_residual

EDIT_KINDS = ("zero", "amplify", "invert", "noise", "ablate", "inject", "patch")


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit.

    component  id of a component or neuron, or the name of a residual site
    kind       one of EDIT_KINDS
    factor     of amplify
    sigma      of noise, in standard deviations over the template; seed of its generator
    positions  None for all; negative numbers count from the end
    values     of inject: [d_model], or [positions, d_model]; a neuron or a single unit: a number, or [positions]
    source     of patch: the other prompt, of equally many tokens

    Raises InputError for a kind that does not exist and for values that its kind does not take.
    """

    component: str
    kind: str
    factor: float = 2.0
    sigma: float = 1.0
    seed: int = 0
    positions: Sequence[int] | None = None
    values: Any = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in EDIT_KINDS:
            raise InputError(f"there is no edit {self.kind!r}; the edits are {', '.join(EDIT_KINDS)}")
        for name in ("factor", "sigma"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        if self.sigma < 0:
            raise InputError(f"sigma is a number of standard deviations, zero or more; got {self.sigma!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, Integral) or self.seed < 0:
            raise InputError(f"a seed is a whole number, zero or more; got {self.seed!r}")
        object.__setattr__(self, "seed", int(self.seed))
        if (self.values is None) == (self.kind == "inject"):
            raise InputError("the edit 'inject', and no other, takes values: what is to be put in")
        if (self.source is None) == (self.kind == "patch"):
            raise InputError("the edit 'patch', and no other, takes a source: the prompt to patch from")
        if self.positions is not None:
            if isinstance(self.positions, str | bytes) or not hasattr(self.positions, "__iter__"):
                raise InputError(f"positions is a list of whole numbers, or None for all; got {self.positions!r}")
            object.__setattr__(self, "positions", tuple(_whole(position) for position in self.positions))

    def as_record(self) -> dict[str, Any]:
        """The edit as plain JSON values; what its kind does not use is left out."""
        record: dict[str, Any] = {"component": self.component, "kind": self.kind}
        used = {"amplify": ("factor",), "noise": ("sigma", "seed"), "patch": ("source",)}.get(self.kind, ())
        record |= {name: getattr(self, name) for name in used}
        if self.values is not None:
            record["values"] = np.asarray(self.values, dtype=float).tolist()
        if self.positions is not None:
            record["positions"] = list(self.positions)
        return record


def _finite(name: str, value: object) -> float:
    """A number as a plain float, whichever library's it is."""
    try:
        found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    except OverflowError:
        found = float("inf")
    if not np.isfinite(found):
        raise InputError(f"{name} is a finite number, got {value!r}")
    return found


def _whole(position: object) -> int:
    if isinstance(position, bool) or not isinstance(position, Integral):
        raise InputError(f"a position is a whole number, got {position!r}")
    return int(position)


def site_edits(
    model: Backend, stimulus: Stimulus, edits: Sequence[Edit], *, progress: Progress = no_progress
) -> list[SiteEdit]:
    """Edits as changes of sites, ready for `Backend.run`.

    Reads the template for ablate and noise (built at the first use of a model) and runs each source of a patch once.
    Raises InputError for a component, position or shape that does not fit; nothing is run before all are checked.
    """
    targets = [model.target(edit.component) for edit in edits]
    positions = [_positions(model, edit, target, len(stimulus)) for edit, target in zip(edits, targets, strict=True)]
    return [
        SiteEdit(target.site, _change(target, chosen, _function(model, stimulus, edit, target, chosen, progress)))
        for edit, target, chosen in zip(edits, targets, positions, strict=True)
    ]


def _positions(model: Backend, edit: Edit, target: EditTarget, n_steps: int) -> list[int]:
    if edit.positions is None:
        spared = edit.kind == "ablate" and "residual" in model.abilities
        return [0] if target.once else list(range(1 if spared else 0, n_steps))
    chosen = require_indices("position", edit.positions, n_steps, "the prompt")
    if not chosen:
        raise InputError(f"positions of the edit of {edit.component} is an empty list; leave it out for all")
    if target.once and 0 not in chosen:
        raise InputError(
            f"{edit.component} acts before the first {model.step_axis} only; edit it at position 0, or leave positions out"
        )
    return [0] if target.once else chosen


def _change(
    target: EditTarget, positions: list[int], function: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[torch.Tensor], torch.Tensor]:
    steps: Any = slice(None) if target.once else positions
    index = (steps,) if target.column is None else (steps, target.column)

    def change(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        changed[index] = function(tensor[index]).to(tensor.dtype)
        return changed

    return change


def _function(
    model: Backend, stimulus: Stimulus, edit: Edit, target: EditTarget, positions: list[int], progress: Progress
) -> Callable[[torch.Tensor], torch.Tensor]:
    """What happens to the values at the chosen positions, [positions, width] or, one number each, [positions].

    Of a part that acts once a pass: to the values at its entries, [entries, width] or [entries].
    """
    match edit.kind:
        case "zero":
            return torch.zeros_like
        case "amplify":
            return lambda value: edit.factor * value
        case "invert":
            return torch.neg
        case "noise":
            return _noise(model, stimulus, edit, target, positions, progress)
        case "ablate":
            given = torch.from_numpy(np.stack([_template_mean(model, target, p == 0, progress) for p in positions]))
        case "inject":
            given = torch.from_numpy(_injected(edit, target, len(positions)))
        case _:
            given = _patched(model, stimulus, edit, target, positions)

    def put(value: torch.Tensor) -> torch.Tensor:
        if target.once and edit.kind == "patch" and given.shape != value.shape:
            raise InputError(
                f"{edit.component} acts {len(value)} times on this stimulus and {len(given)} times on {edit.source!r}; patch "
                "from one on which it acts as often"
            )
        return given.to(value).expand_as(value)

    return put


def _noise(
    model: Backend, stimulus: Stimulus, edit: Edit, target: EditTarget, positions: list[int], progress: Progress
) -> Callable[[torch.Tensor], torch.Tensor]:
    spread = _template_std(model, target, progress)

    def noisy(value: torch.Tensor) -> torch.Tensor:
        # the name is part of the seed: two components get two draws
        random = np.random.default_rng([edit.seed, *edit.component.encode()])
        steps = list(range(len(value))) if target.once else positions
        draw = random.standard_normal((len(value) if target.once else len(stimulus), *np.shape(spread)))[steps]
        return value + torch.from_numpy(edit.sigma * spread * draw).to(value)

    return noisy


def _injected(edit: Edit, target: EditTarget, n_positions: int) -> np.ndarray:
    try:
        values = np.asarray(edit.values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"the values to inject into {edit.component} are not numbers") from None
    width = () if target.width is None else (target.width,)
    if values.shape not in (width, (n_positions, *width)):
        expected = "a number, or one a position" if not width else f"{width[0]} numbers, or {width[0]} a position"
        raise InputError(f"the values to inject into {edit.component} must be {expected}; got shape {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(f"the values to inject into {edit.component} hold NaN or infinity")
    return values


def _patched(model: Backend, stimulus: Stimulus, edit: Edit, target: EditTarget, positions: list[int]) -> torch.Tensor:
    assert edit.source is not None
    source = model.stimulus(edit.source)
    if len(source) != len(stimulus):
        raise InputError(
            f"a patch needs a source of equally many {model.step_axis}s; the prompt has {len(stimulus)} and "
            f"{edit.source!r} has {len(source)}"
        )
    value = model.run(source, {target.site: lambda tensor: tensor.clone()}).reads[target.site]
    value = value if target.once else value[positions]
    return value if target.column is None else value[:, target.column]


def _template_mean(model: Backend, target: EditTarget, first: bool, progress: Progress) -> np.ndarray:
    from nmri3d.template import template_of

    template = template_of(model, progress=progress)
    if target.neuron is not None:
        return template.neuron_mean[target.neuron]
    mean = template.mean_first if first else template.mean
    if target.row is not None:
        return _own(mean[target.row], target)
    return np.nansum(mean[_rows_below(model, target.site)], axis=0)  # a residual is the sum of the writes before it


def _template_std(model: Backend, target: EditTarget, progress: Progress) -> np.ndarray:
    from nmri3d.template import template_of

    template = template_of(model, progress=progress)
    if target.neuron is not None:
        return template.neuron_std[target.neuron]
    if target.row is not None:
        once = template.activity if target.once else None
        return _own((template.std if once is None else once.std_first)[target.row], target)
    return template.residual_std[stream_point(require_residual(model, "paths"), target.site)]


def _own(entries: np.ndarray, target: EditTarget) -> np.ndarray:
    """A component's own numbers out of a template's row, which is as long as the widest component's."""
    return entries[0] if target.width is None else entries[: target.width]


def _rows_below(model: Backend, site: str) -> np.ndarray:
    """Rows whose writes make up the residual at a site."""
    whole = require_residual(model, "paths")
    rows = [row for row, kind in enumerate(model.components.kind) if kind != "unembed"]
    return np.array([row for row in rows if whole.entry_point(row) <= stream_point(whole, site)])
