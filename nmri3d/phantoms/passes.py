"""Hooks on the hook points of a phantom for one pass: what they keep, change, and put in the place of parts.

Convention. `nmri3d.phantoms.phantom` says when a hook point is called and what its tensors look like. Here the batch axis is
dropped where there is one stimulus: a site called once a step gives [steps, ...], a site called once a pass [entries, ...],
where a tensor without an inner axis has one entry.

Left out: how a stimulus becomes inputs, and what is made of the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from nmri3d.errors import InputError, UnsupportedModelError
from nmri3d.models.backend import SiteEdit
from nmri3d.models.unit_backend import Replacement

Hook = Callable[[torch.Tensor], torch.Tensor | None]
"""Takes what passes a hook point, batch axis included; returns what goes on, None: the same."""


@dataclass(frozen=True)
class Site:
    """How the parts of one hook point share it; the same for all of them. `Part` says what the fields mean."""

    name: str
    has_columns: bool
    scalar: bool
    once: bool

    def has_inner(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of this site, batch axis included, has an inner axis. Raises UnsupportedModelError for others."""
        inner = tensor.ndim - (3 if self.has_columns and not self.scalar else 2)
        if inner not in ((0, 1) if self.once else (0,)):
            raise UnsupportedModelError(
                f"hook point {self.name} passes a tensor of shape {tuple(tensor.shape)}, which its parts do not describe"
            )
        return bool(inner)


@contextmanager
def hooked(points: Mapping[str, torch.nn.Module], hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Hooks by name of their point, taken away in the end whatever happens."""

    def forward_hook(act: Hook) -> Callable[..., torch.Tensor | None]:
        return lambda module, arguments, output: act(output)

    handles = [points[name].register_forward_hook(forward_hook(hook)) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Watch:
    """Keeps what passes a site in a pass of one stimulus, after the edits of the site."""

    def __init__(self, site: Site, n_steps: int, edits: Sequence[SiteEdit] = ()) -> None:
        self._site, self._n_steps, self._edits = site, n_steps, edits
        self._unedited: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []

    def __call__(self, passing: torch.Tensor) -> torch.Tensor | None:
        own, inner = passing[0], self._site.has_inner(passing)
        if self._site.once:
            entries = self._edited(own if inner else own[None])
            self._kept.append(entries)
            going_on = entries if inner else entries[0]
        else:
            self._unedited.append(own)
            going_on = self._at_this_step() if self._edits else own
            self._kept.append(going_on)
        return going_on[None] if self._edits else None

    def _at_this_step(self) -> torch.Tensor:
        """The edits see the steps so far, those to come being NaN."""
        so_far = torch.stack(self._unedited)
        to_come = so_far.new_full((max(0, self._n_steps - len(so_far)), *so_far.shape[1:]), torch.nan)
        return self._edited(torch.cat([so_far, to_come]))[len(so_far) - 1]

    def _edited(self, tensor: torch.Tensor) -> torch.Tensor:
        for edit in self._edits:
            changed = edit.change(tensor)
            if changed.shape != tensor.shape:
                raise InputError(
                    f"an edit of {edit.site} must keep the shape {tuple(tensor.shape)}; it gave {tuple(changed.shape)}"
                )
            tensor = changed.to(tensor)
        return tensor

    @property
    def seen(self) -> torch.Tensor:
        """[steps, ...] or [entries, ...]. Raises UnsupportedModelError where the point was not called as its parts say."""
        expected = 1 if self._site.once else self._n_steps
        if len(self._kept) != expected:
            raise UnsupportedModelError(
                f"hook point {self._site.name} was called {len(self._kept)} times in a pass of {self._n_steps} steps, and its "
                f"parts say {expected}"
            )
        return self._kept[0] if self._site.once else torch.stack(self._kept)


class Replace:
    """Puts values in the place of parts in a pass of many stimuli: one part in each row of the batch.

    rows     which rows of the batch
    columns  the part's column in each, None where a part is the whole tensor
    """

    def __init__(self, site: Site, rows: list[int], columns: list[int] | None, replacements: list[Replacement]) -> None:
        self._site, self._step = site, 0
        self._rows, self._columns = torch.tensor(rows), None if columns is None else torch.tensor(columns)
        self._values = torch.stack([each.values for each in replacements])  # [rows, entries, width]

    def __call__(self, passing: torch.Tensor) -> torch.Tensor:
        inner = self._site.has_inner(passing)
        values = self._values if inner else self._values[:, self._step]
        if self._site.scalar:
            values = values[..., 0]
        changed = passing.clone()
        index: tuple[Any, ...] = (self._rows,)
        if self._columns is not None:
            index += (slice(None), self._columns) if inner else (self._columns,)
        changed[index] = values.to(changed)
        self._step += 1
        return changed


class Leaves:
    """Adds a zero to what passes a site, whose gradient is that of what passes."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.zeros: list[torch.Tensor] = []
        self._inner = False

    def __call__(self, passing: torch.Tensor) -> torch.Tensor:
        self._inner = self._site.has_inner(passing)
        self.zeros.append(torch.zeros_like(passing, requires_grad=True))
        return passing + self.zeros[-1]

    def together(self, gradients: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Gradients of the zeros, None being none, as [steps, ...] or [entries, ...]."""
        own = [
            torch.zeros_like(zero)[0] if gradient is None else gradient[0]
            for zero, gradient in zip(self.zeros, gradients, strict=True)
        ]
        return own[0] if self._inner else torch.stack(own)
