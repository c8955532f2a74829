"""Passes watched by nnsight: each place that is tapped becomes an intervention of a trace.

Convention. nnsight (0.8) runs an intervention beside the forward pass, in a greenlet, and wakes it when the model reaches
what it asked for. Every tapped place is an invoke of its own that sees the whole batch, so nothing depends on the order in
which a family calls its modules. While a tap acts, the trace is stood down, as nnsight does for modules called ad hoc:
what the tap itself computes with the model's modules is no part of the pass.

nnsight changes two things of the process when it is imported. It mounts `.save` on every object, which breaks libraries that
look for such an attribute, so that is undone (`nnsight.save` does the same). And it empties the C++ backtraces of torch's
errors, which it needs. Wrapping a model puts nnsight's own `forward` on each of its modules, inert outside of traces.

Left out: NDIF (`nmri3d.models.remote_passes`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nmri3d.errors import MachineError
from nmri3d.models.passes import Tap, act_on_call

_IMPORT = threading.Lock()


def import_nnsight() -> Any:
    """The nnsight package, without its attribute on every object. Raises MachineError where it is not installed."""
    with _IMPORT:
        already = "nnsight" in sys.modules  # a user's own import keeps what the user sees
        try:
            import nnsight
            from nnsight._c import unmount
        except ImportError as error:
            raise MachineError(
                f"nnsight is needed for this model and cannot be imported ({error}); install it with `pip install nnsight`"
            ) from error
        if unmount is not None and not already and hasattr(object, "save"):
            unmount("save")
        return nnsight


class NnsightPasses:
    """Passes of a Hugging Face model in memory, through nnsight's tracing."""

    def __init__(self, hf_model: nn.Module) -> None:
        self.model = import_nnsight().NNsight(hf_model)
        """The model as nnsight sees it, for a user's own traces."""
        names = {module: f"{self.model.path}.{name}".rstrip(".") for name, module in hf_model.named_modules()}
        by_path = dict(self.model.named_modules())
        self._envoys = {module: by_path[path] for module, path in names.items()}

    def run(self, module: nn.Module, arguments: Mapping[str, Any], taps: Sequence[Tap]) -> None:
        """Trace one call of a module."""
        by_module: dict[nn.Module, list[Tap]] = {}
        for tap in taps:
            by_module.setdefault(tap.module, []).append(tap)
        interleaver = self.model.interleaver
        with self._envoys[module].trace() as tracer:
            with tracer.invoke(**arguments):
                pass
            for tapped, its_taps in by_module.items():
                self._watch(tracer, interleaver, self._envoys[tapped], its_taps)

    @staticmethod
    def _watch(tracer: Any, interleaver: Any, envoy: Any, taps: list[Tap]) -> None:
        """Let taps act on what enters and leaves a module."""
        on_call = [tap for tap in taps if tap.place != "output"]
        on_output = [tap for tap in taps if tap.place == "output"]
        if on_call:
            with tracer.invoke():
                call = envoy.inputs
                with _stood_down(interleaver):
                    changed_call = _acted_on_call(call, on_call)
                if changed_call is not None:
                    envoy.inputs = changed_call
        if on_output:
            with tracer.invoke():
                output = envoy.output
                with _stood_down(interleaver):
                    changed_output = _acted(output, on_output)
                if changed_output is not None:
                    envoy.output = changed_output

    def gradients(self, value: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """By nnsight's backward trace, which asks for gradients in the order in which they arrive."""
        arriving: list[torch.Tensor] = []
        last_first = list(reversed(tensors))
        with value.backward():  # nnsight makes it a context
            for tensor in last_first:
                arriving.append(tensor.grad)  # type: ignore[arg-type]
        return arriving[::-1]


@contextmanager
def _stood_down(interleaver: Any) -> Iterator[None]:
    """Keep the trace from watching what happens inside."""
    interleaver.interleaving = False
    try:
        yield
    finally:
        interleaver.interleaving = True


def _acted_on_call(call: tuple[Any, ...], taps: list[Tap]) -> tuple[Any, ...] | None:
    changed = None
    for tap in taps:
        args, kwargs = call if changed is None else changed
        changed = act_on_call(tap, args, kwargs) or changed
    return changed


def _acted(output: Any, taps: list[Tap]) -> Any:
    changed = None
    for tap in taps:
        result = tap.act(output if changed is None else changed)
        changed = changed if result is None else result
    return changed
