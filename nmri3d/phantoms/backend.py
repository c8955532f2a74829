"""Any phantom as a backend: a network of units, run by its own forward with hooks on its hook points.

Convention. See `nmri3d.models.unit_backend` for what a unit network offers, `nmri3d.phantoms.phantom` for how a phantom is
made. Steps and outputs are the phantom's own. When a phantom is opened its first example is run once: each hook point must be
called as its parts say, and the parts' weights must be the module's parameters, each exactly once.

Left out: phantoms with a residual stream, whose packages bring a backend of their own.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch

from nmri3d.components import ComponentTable, component_id, parse_component_id
from nmri3d.errors import InputError, UnsupportedModelError
from nmri3d.models import devices
from nmri3d.models.backend import (
    Backend,
    EditTarget,
    ModelInfo,
    Progress,
    Reducer,
    Reduction,
    Run,
    SiteEdit,
    Stimulus,
    no_progress,
)
from nmri3d.models.fingerprint import fingerprint
from nmri3d.models.progress import part
from nmri3d.models.unit_backend import Activity, BySite, OfOutputs, Replacement
from nmri3d.phantoms.layout import weight_features
from nmri3d.phantoms.passes import Hook, Leaves, Replace, Site, Watch, hooked
from nmri3d.phantoms.phantom import Part, Phantom
from nmri3d.phantoms.plans import ActivityPlan, activity_plan
from nmri3d.phantoms.registry import PHANTOMS, shipped

BATCH = 128
"""Interventions that run in one pass."""


def open_phantom(name: str, *, device: str = "auto", progress: Progress = no_progress) -> Backend:
    """The backend of a shipped phantom; "auto" is the CPU, which is fastest for networks this small.

    Raises ModelNotFoundError for a name that is none or has no weights, InputError for a device that there is not.
    """
    progress(0.0, f"reading the weights of phantom {name}")
    phantom = shipped(name)
    source = f"shipped with nmri3d, trained by `nmri3d phantom train {name}`"
    return open_module(name, phantom, source=source, device=device, progress=part(progress, 0.5, 1.0))


def open_module(
    name: str,
    phantom: Phantom,
    *,
    source: str = "made here",
    device: str = "auto",
    progress: Progress = no_progress,
) -> Backend:
    """The backend of a phantom's network in memory, whatever its weights; `device` as in `open_phantom`."""
    place = "cpu" if device == "auto" else devices.choose(device)
    own = f"{PHANTOMS[name].package}.backend"
    make: Callable[..., Backend] = import_module(own).open_backend if find_spec(own) else PhantomBackend
    return make(phantom, source=source, device=place, progress=progress)


class PhantomBackend:
    """A phantom without a residual stream. See `Backend` and `UnitBackend` for what each member means."""

    abilities = frozenset({"gradient"})
    end_tokens: frozenset[int] = frozenset()

    def __init__(
        self, phantom: Phantom, *, source: str = "made here", device: str = "cpu", progress: Progress = no_progress
    ) -> None:
        """Run the first example once and check what the phantom says of itself.

        Raises UnsupportedModelError where hook points or weights are not as its parts say.
        """
        progress(0.0, "checking the parts")
        self.phantom = phantom.to(device).eval()
        self._device = torch.device(device)
        self._parts = tuple(phantom.parts)
        self._sites = _sites(phantom, self._parts)
        identity = phantom.identity
        self.step_axis, self.outputs, self.metric = identity.step_axis, identity.outputs, identity.metric
        self.examples = tuple(identity.examples)
        self.structures: tuple[str, ...] = tuple(each.structure for each in self._parts)
        self._output_names = tuple(phantom.output_names)
        self.components = _table(phantom, self._parts)
        none = np.array([], dtype=np.int64)
        self.neurons = ComponentTable(none.astype(str), none, none, none)
        self.kinds = tuple(dict.fromkeys(self.components.kind.tolist()))
        self.widths = self._measured_widths()
        self.signed = (self.widths == 1) & ~np.array([each.rate for each in self._parts])
        progress(0.7, "taking the fingerprint of the weights")
        parameters = list(phantom.parameters())
        self.info = ModelInfo(
            model_id=f"phantom:{identity.name}",
            title=identity.title,
            architecture=type(phantom).__name__,
            n_layers=int(self.components.layer.max(initial=-1)) + 1,
            n_heads=0,
            n_kv_heads=0,
            d_model=int(self.widths.max()),
            d_head=0,
            d_mlp=0,
            d_vocab=len(self._output_names),
            n_context=0,
            n_params=sum(parameter.numel() for parameter in parameters),
            dtype="float32",
            device=device,
            memory_bytes=sum(each.numel() * each.element_size() for each in (*parameters, *phantom.buffers())),
            completeness=None,
            source=source,
            fingerprint=self.fingerprint(),
        )
        progress(1.0, "ready")

    # -- running -----------------------------------------------------------------------------------------------------

    def stimulus(self, text: str) -> Stimulus:
        """Read what a person typed; the phantom says what it understands."""
        if not isinstance(text, str):
            raise InputError(f"a stimulus is text, got {type(text).__name__}; try {self.examples[0]!r}")
        return self.phantom.stimulus(text)

    def reference(self) -> Sequence[str]:
        """The phantom's own reference stimuli."""
        return self.phantom.reference()

    def token_text(self, token: int) -> str:
        """Text of one output."""
        return self._output_names[token]

    def token_id(self, text: str) -> int:
        """Number of an output by its text, spaces around it aside. Raises InputError for any other."""
        for wanted in (text, text.strip() if isinstance(text, str) else text):
            if wanted in self._output_names:
                return self._output_names.index(wanted)
        some = ", ".join(map(repr, self._output_names[:8])) + (", …" if len(self._output_names) > 8 else "")
        raise InputError(f"{self.info.title} has no output {text!r}; it has {some}")

    @property
    def site_names(self) -> tuple[str, ...]:
        """Every site that `run` can read."""
        return tuple(self._sites)

    def run(
        self,
        stimulus: Stimulus,
        reads: Mapping[str, Reducer],
        *,
        edits: Sequence[SiteEdit] = (),
        logits: Sequence[int] | None = None,
        progress: Progress = no_progress,
    ) -> Run:
        """One forward pass. Nothing of it stays on the phantom, whatever happens."""
        for name in (*reads, *(edit.site for edit in edits)):
            if name not in self._sites:
                raise InputError(f"{self.info.title} has no site {name!r}; see backend.site_names for those it has")
        progress(0.0, f"running {len(stimulus)} {self.step_axis}s")
        of_site: dict[str, list[SiteEdit]] = {name: [] for name in (*reads, *(edit.site for edit in edits))}
        for edit in edits:
            of_site[edit.site].append(edit)
        watches = {name: Watch(self._sites[name], len(stimulus), own) for name, own in of_site.items()}
        outputs = self._forward(stimulus, watches)[0]
        kept = {name: reduce(watches[name].seen) for name, reduce in reads.items()}
        progress(1.0, "done")
        return Run(kept, None if logits is None else outputs[[range(len(stimulus))[p] for p in logits]])

    def _forward(self, stimulus: Stimulus, hooks: Mapping[str, Hook], n: int = 1) -> torch.Tensor:
        """Outputs [n, steps, outputs] of n copies of a stimulus. Gradients are left to the phantom (it may learn inside)."""
        inputs = {
            name: tensor.to(self._device).expand(n, *tensor.shape[1:]).contiguous()
            for name, tensor in self.phantom.inputs(stimulus).items()
        }
        with torch.no_grad(), hooked(self.phantom.hook_dict, hooks):
            return self.phantom(**inputs).float()

    def observe(self, stimulus: Stimulus) -> Activity:
        """One pass, kept whole."""
        watches = {name: Watch(site, len(stimulus)) for name, site in self._sites.items()}
        outputs = self._forward(stimulus, watches)[0]
        return Activity({name: watch.seen for name, watch in watches.items()}, outputs)

    def part_of(self, sites: BySite, row: int) -> torch.Tensor:
        """One part's share, [entries, width]."""
        each = self._parts[row]
        whole = sites[each.site]
        own = whole if each.column is None else whole[:, each.column]
        return own[:, None] if each.scalar else own

    def run_each(
        self, stimulus: Stimulus, replacements: Sequence[Replacement], progress: Progress = no_progress
    ) -> torch.Tensor:
        """Outputs float32 [replacements, steps, outputs] with each replacement by itself, BATCH of them in one pass."""
        found = [torch.empty(0, len(stimulus), len(self._output_names), device=self._device)]
        for first in range(0, len(replacements), BATCH):
            progress(first / len(replacements), f"intervention {first + 1} of {len(replacements)}")
            together = replacements[first : first + BATCH]
            by_site: dict[str, list[int]] = {}
            for number, each in enumerate(together):
                by_site.setdefault(self._parts[each.row].site, []).append(number)
            hooks = {
                name: Replace(
                    self._sites[name],
                    numbers,
                    self._columns(name, [together[number].row for number in numbers]),
                    [together[number] for number in numbers],
                )
                for name, numbers in by_site.items()
            }
            found.append(self._forward(stimulus, hooks, len(together)))
        progress(1.0, "done")
        return torch.cat(found)

    def _columns(self, site: str, rows: Sequence[int]) -> list[int] | None:
        columns = [self._parts[row].column for row in rows]
        return [c for c in columns if c is not None] if self._sites[site].has_columns else None

    def activity_gradients(self, stimulus: Stimulus, metric: OfOutputs) -> tuple[Activity, BySite]:
        """One pass, and the gradient of a metric of its outputs at what passes each site."""
        activity = self.observe(stimulus)
        leaves = {name: Leaves(site) for name, site in self._sites.items()}
        inputs = {name: tensor.to(self._device) for name, tensor in self.phantom.inputs(stimulus).items()}
        with torch.enable_grad(), hooked(self.phantom.hook_dict, leaves):
            value = metric(self.phantom(**inputs).float()[0])
            zeros = [zero for leaf in leaves.values() for zero in leaf.zeros]
            found = iter(torch.autograd.grad(value, zeros, allow_unused=True))
        return activity, {name: leaf.together([next(found) for _ in leaf.zeros]) for name, leaf in leaves.items()}

    def target(self, component: str) -> EditTarget:
        """Where an edit of a part acts."""
        row = self.components.row(component)
        each = self._parts[row]
        width = None if each.scalar else int(self.widths[row])
        return EditTarget(each.site, each.column, width, row, once=each.once)

    def write_plan(self, reduction: Reduction, layers: frozenset[int]) -> ActivityPlan:
        """Plan to read activations; see `nmri3d.models.unit_backend`."""
        rows = [row for row, each in enumerate(self._parts) if each.layer in layers or each.layer < 0]
        return activity_plan(self._parts, rows, self._sites, self.info.d_model, reduction)

    # -- weights -----------------------------------------------------------------------------------------------------

    def weights(self, row: int) -> Mapping[str, torch.Tensor]:
        """The part's own parameters by name; views of the live weights, not to be written to."""
        return {name: weight.detach() for name, weight in self.phantom.weights(self._parts[row]).items()}

    def layout_features(self) -> np.ndarray:
        """float32 [components, features]; see `nmri3d.phantoms.layout`."""
        return weight_features(self.components.kind, [self.weights(row) for row in range(len(self._parts))])

    def fingerprint(self) -> str:
        """sha256 over names, shapes, dtypes and bytes of the live weights."""
        return fingerprint(self.phantom)

    def close(self) -> None:
        """Drop the phantom."""
        del self.phantom
        gc.collect()

    # -- checks when a phantom is opened -----------------------------------------------------------------------------

    def _measured_widths(self) -> np.ndarray:
        """Units of each part, from one pass of the first example."""
        sites = self.observe(self.phantom.stimulus(self.examples[0])).sites
        return np.array([self.part_of(sites, row).shape[1] for row in range(len(self._parts))], dtype=np.int64)


def _sites(phantom: Phantom, parts: Sequence[Part]) -> dict[str, Site]:
    """The hook points that carry parts. Raises UnsupportedModelError where two parts disagree about one, or it is not there."""
    found: dict[str, Site] = {}
    for each in parts:
        site = Site(each.site, each.column is not None, each.scalar, each.once)
        if each.site not in phantom.hook_dict:
            raise UnsupportedModelError(f"{type(phantom).__name__} has no hook point {each.site!r}, which a part names")
        if found.setdefault(each.site, site) != site:
            raise UnsupportedModelError(f"the parts of hook point {each.site} disagree about what passes it")
        if each.scalar and each.column is None:
            raise UnsupportedModelError(f"a part of hook point {each.site} is one unit of it and must name its column")
    if all(site.once for site in found.values()):
        raise UnsupportedModelError(f"{type(phantom).__name__} has no part that acts at every step")
    return found


def _table(phantom: Phantom, parts: Sequence[Part]) -> ComponentTable:
    """The component table; weights must partition the module's parameters."""
    for each in parts:
        parse_component_id(component_id(each.kind, each.layer, each.index))
    counts = [sum(weight.numel() for weight in phantom.weights(each).values()) for each in parts]
    total = sum(parameter.numel() for parameter in phantom.parameters())
    if sum(counts) != total:
        raise UnsupportedModelError(
            f"the parts of {type(phantom).__name__} own {sum(counts):,} parameters, and it has {total:,}"
        )
    return ComponentTable(
        kind=np.array([each.kind for each in parts]),
        layer=np.array([each.layer for each in parts]),
        index=np.array([each.index for each in parts]),
        n_params=np.array(counts),
    )
