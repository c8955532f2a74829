"""Hooks on the sites of a model: read what passes, edit it first where asked, and leave nothing behind.

Convention. A site's tensor is handed on with its batch axis dropped. Edits of a site come before its reads, in the order
given. The site `blocks.{l}.attn.writes` is [steps, heads (and b_O, where there is one), d_model], what each row of the
table writes; an edit of it changes the residual by the difference, so that a post-norm keeps the scale that it had before
the edit. Weights are never touched.

Left out: gradients (`nmri3d.models.gradients`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from nmri3d.errors import InputError, UnsupportedModelError
from nmri3d.models.backend import Progress, Reducer, SiteEdit, no_progress
from nmri3d.models.sites import ModuleMap, Site
from nmri3d.models.writes import OutputWeights, post_norm_scale

ORDER = ("input", "writes", "output", "post_norm_scale", "pattern", "residual_after")
"""Hooks of one module fire as they were registered: what a head writes is edited before what attention writes is."""


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


@contextmanager
def site_hooks(
    modules: ModuleMap,
    outputs: Sequence[OutputWeights],
    sites: Mapping[str, Site],
    reads: Mapping[str, Reducer],
    edits: Sequence[SiteEdit],
    kept: dict[str, Any],
    progress: Progress = no_progress,
) -> Iterator[None]:
    """Hooks for one pass; what is read goes to `kept`. They are removed whatever happens."""
    plans: dict[str, _Plan] = {}
    for edit in edits:
        plans.setdefault(edit.site, _Plan()).edits.append(edit.change)
    for name, reduce in reads.items():
        plans.setdefault(name, _Plan()).keep = partial(_keep, kept, name, reduce)
    handles: list[Any] = []
    try:
        if progress is not no_progress:
            n_layers = len(modules.blocks)
            for layer, block in enumerate(modules.blocks):
                report = partial(_report, progress, layer / n_layers, f"layer {layer + 1} of {n_layers}")
                handles.append(block.block.register_forward_pre_hook(report))
        for name in sorted(plans, key=lambda name: ORDER.index(sites[name].reads)):
            handles += _place(sites[name], plans[name], outputs)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(kept: dict[str, Any], name: str, reduce: Reducer, tensor: torch.Tensor) -> None:
    kept[name] = reduce(tensor)


def _report(progress: Progress, share: float, what: str, *_: Any) -> None:
    progress(share, what)


def _place(site: Site, plan: _Plan, outputs: Sequence[OutputWeights]) -> list[Any]:
    """Put a site's plan on its module."""
    if plan.edits and site.reads in ("post_norm_scale", "pattern"):
        raise InputError("attention patterns and the scales of norms can be read, not edited; edit a write instead")
    match site.reads:
        case "input":
            return [site.module.register_forward_pre_hook(partial(_on_input, plan, site.n_heads), with_kwargs=True)]
        case "output":
            return [site.module.register_forward_hook(partial(_on_output, plan))]
        case "pattern":
            return [site.module.register_forward_hook(partial(_on_pattern, plan))]
        case "post_norm_scale":
            return [site.module.register_forward_hook(partial(_on_scale, plan))]
        case "writes":
            return _attention_writes(site, plan, outputs[site.layer])
        case _:
            return _residual_after(site, plan)


def _on_input(plan: _Plan, n_heads: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = (args[0] if args else kwargs["hidden_states"])[0]
    changed = plan(value.unflatten(-1, (n_heads, -1)) if n_heads else value)
    if changed is None:
        return None
    changed = (changed.flatten(-2) if n_heads else changed)[None]
    return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})


def _on_output(plan: _Plan, module: Any, args: Any, output: torch.Tensor) -> Any:
    changed = plan(output[0])
    return None if changed is None else changed[None]


def _on_pattern(plan: _Plan, module: Any, args: Any, output: Any) -> None:
    pattern = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    if pattern is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} does not give its attention pattern; load the model with eager attention"
        )
    plan(pattern[0])


def _on_scale(plan: _Plan, module: Any, args: Any, output: torch.Tensor) -> None:
    plan(post_norm_scale(module, args[0][0], output[0]))


def _attention_writes(site: Site, plan: _Plan, output: OutputWeights) -> list[Any]:
    """Read and edit the writes of an attention sub-layer, each row of the table for itself."""
    inputs: list[torch.Tensor] = []
    norm = site.post_norm

    def before(module: Any, args: tuple[Any, ...]) -> None:
        inputs.append(args[0][0].unflatten(-1, (len(output.w_o), -1)))

    def after(module: Any, args: tuple[Any, ...], result: torch.Tensor) -> Any:
        scale = None if norm is None else post_norm_scale(module, args[0][0], result[0])
        writes = output.rows(inputs.pop(), scale)
        changed = plan(writes)
        return None if changed is None else result + (changed - writes).sum(dim=1).to(result.dtype)[None]

    return [site.module.register_forward_pre_hook(before), (norm or site.module).register_forward_hook(after)]


def _residual_after(site: Site, plan: _Plan) -> list[Any]:
    """Read and edit the residual between attention and MLP, which no module of its own passes on."""
    residuals: list[torch.Tensor] = []
    assert site.block is not None

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        residuals.append((args[0] if args else kwargs["hidden_states"])[0])

    def after(module: Any, args: tuple[Any, ...], write: torch.Tensor) -> Any:
        residual = residuals.pop() + write[0]
        changed = plan(residual)
        return None if changed is None else write + (changed - residual)[None]

    return [
        site.block.register_forward_pre_hook(before, with_kwargs=True),
        site.module.register_forward_hook(after),
    ]
