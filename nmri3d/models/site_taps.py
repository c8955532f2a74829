"""Taps on the sites of a model: read what passes, edit it first where asked.

Convention. A site's tensor is handed on with its batch axis dropped. Edits of a site come before its reads, in the order
given. The site `blocks.{l}.attn.writes` is [steps, heads (and b_O, where there is one), d_model], what each row of the
table writes; an edit of it changes the residual by the difference, so that a post-norm keeps the scale that it had before
the edit. Weights are never touched.

Left out: putting the taps into a pass (`nmri3d.models.passes`), gradients (`nmri3d.models.gradients`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from nmri3d.errors import InputError, UnsupportedModelError
from nmri3d.models.backend import Progress, Reducer, SiteEdit, no_progress
from nmri3d.models.passes import Tap
from nmri3d.models.sites import ModuleMap, Site
from nmri3d.models.writes import OutputWeights, post_norm_scale

ORDER = ("input", "writes", "output", "post_norm_scale", "pattern", "residual_after")
"""Taps of one place act as they are listed: what a head writes is edited before what attention writes is."""


@dataclass
class _Plan:
    """What is to be done at one site."""

    edits: list[Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=list)
    keep: Callable[[torch.Tensor], None] | None = None

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Edit, then read; the edited tensor, or None where nothing was edited."""
        for edit in self.edits:
            changed = edit(tensor)
            if not isinstance(changed, torch.Tensor) or changed.shape != tensor.shape:
                shape = getattr(changed, "shape", type(changed).__name__)
                raise InputError(f"an edit must keep the shape {tuple(tensor.shape)} of its site, and gave {shape}")
            tensor = changed.to(tensor.dtype)
        if self.keep is not None:
            self.keep(tensor)
        return tensor if self.edits else None


def site_taps(
    modules: ModuleMap,
    outputs: Sequence[OutputWeights],
    sites: Mapping[str, Site],
    reads: Mapping[str, Reducer],
    edits: Sequence[SiteEdit],
    kept: dict[str, Any],
    progress: Progress = no_progress,
) -> list[Tap]:
    """Taps of one pass; what is read goes to `kept`. Raises InputError for an edit of what can only be read."""
    plans: dict[str, _Plan] = {}
    for edit in edits:
        plans.setdefault(edit.site, _Plan()).edits.append(edit.change)
    for name, reduce in reads.items():
        plans.setdefault(name, _Plan()).keep = partial(_keep, kept, name, reduce)
    taps: list[Tap] = []
    if progress is not no_progress:
        n_layers = len(modules.blocks)
        for layer, block in enumerate(modules.blocks):
            report = partial(_report, progress, layer / n_layers, f"layer {layer + 1} of {n_layers}")
            taps.append(Tap(block.block, "input", report))
    # what embed writes passes at the entrance of block 0, as the residual there does, and comes before it
    for name in sorted(plans, key=lambda name: (ORDER.index(sites[name].reads), name != "hook_embed")):
        taps += _taps_of(sites[name], plans[name], outputs)
    return taps


def _keep(kept: dict[str, Any], name: str, reduce: Reducer, tensor: torch.Tensor) -> None:
    kept[name] = reduce(tensor)


def _report(progress: Progress, share: float, what: str, passing: Any) -> None:
    progress(share, what)


def _taps_of(site: Site, plan: _Plan, outputs: Sequence[OutputWeights]) -> list[Tap]:
    """The taps of one site."""
    if plan.edits and site.reads in ("post_norm_scale", "pattern"):
        raise InputError("attention patterns and the scales of norms can be read, not edited; edit a write instead")
    match site.reads:
        case "input":
            return [Tap(site.module, "input", partial(_on_input, plan, site.n_heads))]
        case "output":
            return [Tap(site.module, "output", partial(_on_output, plan))]
        case "pattern":
            return [Tap(site.module, "output", partial(_on_pattern, plan, type(site.module).__name__))]
        case "post_norm_scale":
            return _post_norm(site, plan, outputs[site.layer])
        case "writes":
            return _attention_writes(site, plan, outputs[site.layer])
        case _:
            return _residual_after(site, plan)


def _on_input(plan: _Plan, n_heads: int, passing: torch.Tensor) -> torch.Tensor | None:
    value = passing[0]
    changed = plan(value.unflatten(-1, (n_heads, -1)) if n_heads else value)
    if changed is None:
        return None
    return (changed.flatten(-2) if n_heads else changed)[None]


def _on_output(plan: _Plan, output: torch.Tensor) -> torch.Tensor | None:
    changed = plan(output[0])
    return None if changed is None else changed[None]


def _on_pattern(plan: _Plan, name: str, output: Any) -> None:
    pattern = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    if pattern is None:
        raise UnsupportedModelError(f"{name} does not give its attention pattern; load the model with eager attention")
    plan(pattern[0])


class _Last:
    """Holds what passed one place until it is asked for at a later one of the same pass."""

    def __init__(self) -> None:
        self._held: list[torch.Tensor] = []

    def hold(self, passing: torch.Tensor) -> None:
        self._held = [passing[0]]

    def take(self) -> torch.Tensor:
        return self._held.pop()


def _post_norm(site: Site, plan: _Plan, output: OutputWeights) -> list[Tap]:
    """Read the scale that the norm after an attention applied."""
    before, gain = _Last(), output.gain
    assert gain is not None

    def after(result: torch.Tensor) -> None:
        plan(post_norm_scale(gain, before.take(), result[0]))

    return [Tap(site.module, "input", before.hold), Tap(site.module, "output", after)]


def _attention_writes(site: Site, plan: _Plan, output: OutputWeights) -> list[Tap]:
    """Read and edit the writes of an attention sub-layer, each row of the table for itself."""
    heads, unnormed, norm = _Last(), _Last(), site.post_norm

    def after(result: torch.Tensor) -> torch.Tensor | None:
        scale = None if output.gain is None else post_norm_scale(output.gain, unnormed.take(), result[0])
        writes = output.rows(heads.take().unflatten(-1, (len(output.w_o), -1)), scale)
        changed = plan(writes)
        return None if changed is None else result + (changed - writes).sum(dim=1).to(result.dtype)[None]

    taps = [Tap(site.module, "input", heads.hold), Tap(norm or site.module, "output", after)]
    return taps if norm is None else [*taps, Tap(norm, "input", unnormed.hold)]


def _residual_after(site: Site, plan: _Plan) -> list[Tap]:
    """Read and edit the residual between attention and MLP, which no module of its own passes on."""
    entering = _Last()
    assert site.block is not None

    def after(write: torch.Tensor) -> torch.Tensor | None:
        residual = entering.take() + write[0]
        changed = plan(residual)
        return None if changed is None else write + (changed - residual)[None]

    return [Tap(site.block, "input", entering.hold), Tap(site.module, "output", after)]
