"""What may be measured on the one model beside scans: perturbations, traces, sweeps, patterns, lenses, generation.

Convention. As `nmri3d.service.core`: methods block, take `progress`, keep their results by prompt and options, and raise
what the measurement raises. `estimate_trace` and `estimate_sweep` tell in seconds how long the same request would take.

Left out: the mathematics, which is in `nmri3d.perturbation` and `nmri3d.scans`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nmri3d.errors import Cancelled
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.residual_backend import require_residual
from nmri3d.results import Comparison, Heatmap, Prediction, Scan, Sweep, Writing
from nmri3d.service.cache import option_key

if TYPE_CHECKING:
    import numpy as np

    from nmri3d.perturbation import Edit
    from nmri3d.results import Example, GenerationStep, HeadKinds, LensTable, OwnEffect

T = TypeVar("T")


class Measuring:
    """Part of `Service`: requests to the model that are answered once for all visitors."""

    def _answer(
        self, prompt: str | None, key: Hashable, measure: Callable[[Backend, Progress], T], progress: Progress
    ) -> T:
        raise NotImplementedError

    def _in_turn(self, work: Callable[[Backend], T], progress: Progress) -> T:
        raise NotImplementedError

    def perturb(
        self, prompt: str, edits: Sequence[Edit], *, k: int = 10, progress: Progress = no_progress
    ) -> Comparison:
        """A prompt run with edits against the same prompt without, `nmri3d.perturb`; the clean run is kept."""
        from nmri3d import perturbation

        clean = self._answer(
            prompt, "clean run", lambda model, report: perturbation.clean_run(model, prompt, progress=report), progress
        )

        def measure(model: Backend, report: Progress) -> Comparison:
            return perturbation.perturb(model, prompt, edits, k=k, clean=clean, progress=report)

        record = json.dumps([edit.as_record() for edit in edits])
        return self._answer(prompt, ("perturb", record, k), measure, progress)

    def scan_neurons(
        self, mode: str, prompt: str | None = None, *, progress: Progress = no_progress, **options: Any
    ) -> Scan:
        """A scan of every MLP neuron, `nmri3d.scan_neurons`, or the kept result of an equal request."""

        def measure(model: Backend, report: Progress) -> Scan:
            from nmri3d.scans import scan_neurons

            return scan_neurons(model, mode, prompt, progress=report, **options)

        return self._answer(prompt, ("neuron scan", mode, option_key(options)), measure, progress)

    def trace(
        self, clean: str, corrupt: str | None = None, *, progress: Progress = no_progress, **options: Any
    ) -> Heatmap:
        """Causal tracing, `nmri3d.trace`."""

        def measure(model: Backend, report: Progress) -> Heatmap:
            from nmri3d import perturbation

            return perturbation.trace(model, clean, corrupt, progress=report, **options)

        return self._answer(clean, ("trace", corrupt, option_key(options)), measure, progress)

    def estimate_trace(
        self, clean: str, corrupt: str | None = None, *, progress: Progress = no_progress, **options: Any
    ) -> float:
        """Seconds that `trace` with these arguments would take."""

        def work(model: Backend) -> float:
            from nmri3d import perturbation

            return _estimated(
                lambda confirm: perturbation.trace(model, clean, corrupt, confirm=confirm, progress=progress, **options)
            )

        return self._in_turn(work, progress)

    def sweep(self, prompt: str, *, progress: Progress = no_progress, **options: Any) -> Sweep:
        """Every component replaced by itself, `nmri3d.ablate_all`."""

        def measure(model: Backend, report: Progress) -> Sweep:
            from nmri3d import perturbation

            return perturbation.ablate_all(model, prompt, progress=report, **options)

        return self._answer(prompt, ("sweep", option_key(options)), measure, progress)

    def estimate_sweep(self, prompt: str, *, progress: Progress = no_progress, **options: Any) -> float:
        """Seconds that `sweep` with these arguments would take."""

        def work(model: Backend) -> float:
            from nmri3d import perturbation

            return _estimated(
                lambda confirm: perturbation.ablate_all(model, prompt, confirm=confirm, progress=progress, **options)
            )

        return self._in_turn(work, progress)

    def verify_edge(
        self, prompt: str, source: str, target: str, slot: str, *, progress: Progress = no_progress, **options: Any
    ) -> float:
        """What one edge carries, by path patching: `nmri3d.verify_edge`."""

        def measure(model: Backend, report: Progress) -> float:
            from nmri3d import perturbation

            return perturbation.verify_edge(model, prompt, source, target, slot, progress=report, **options)

        return self._answer(prompt, ("edge", source, target, slot, option_key(options)), measure, progress)

    def attention(self, prompt: str, layer: int, *, progress: Progress = no_progress) -> np.ndarray:
        """Attention pattern of every head of a layer, float32 [heads, query, key]."""
        from nmri3d.models.checks import require_indices

        def measure(model: Backend, report: Progress) -> np.ndarray:
            with_heads = require_residual(model, "attention")
            (number,) = require_indices("layer", [layer], model.info.n_layers, "this model")
            return with_heads.attention(model.stimulus(prompt), number)

        return self._answer(prompt, ("attention", layer), measure, progress)

    def head_kinds(self, *, progress: Progress = no_progress) -> HeadKinds:
        """Previous-token, duplicate-token and induction scores of every head."""

        def measure(model: Backend, report: Progress) -> HeadKinds:
            from nmri3d.scans.head_kinds import head_kinds

            return head_kinds(model, progress=report)

        return self._answer(None, ("derived", "head kinds"), measure, progress)

    def logit_lens(self, prompt: str, *, k: int = 5, progress: Progress = no_progress) -> LensTable:
        """The likeliest tokens that each layer's residual stands for, at each position."""

        def measure(model: Backend, report: Progress) -> LensTable:
            from nmri3d.scans.logit_lens import logit_lens

            return logit_lens(model, prompt, k=k, progress=report)

        return self._answer(prompt, ("lens", k), measure, progress)

    def own_effect(self, prompt: str, component: str, *, progress: Progress = no_progress) -> OwnEffect:
        """What one component by itself does to the logit lens at its point."""

        def measure(model: Backend, report: Progress) -> OwnEffect:
            from nmri3d.scans.own_effect import own_effect

            return own_effect(model, prompt, component, progress=report)

        return self._answer(prompt, ("own effect", component), measure, progress)

    def moving_passages(self, component: str, *, k: int = 5, progress: Progress = no_progress) -> list[Example]:
        """The passages of the reference text that move a component most: what it usually answers to."""

        def measure(model: Backend, report: Progress) -> list[Example]:
            from nmri3d.template import moving_passages, template_of

            return moving_passages(model, template_of(model, progress=report), component, k=k)

        return self._answer(None, ("derived", "passages", component, k), measure, progress)

    def template_ready(self) -> bool:
        """Whether the reference template of the model is there already, so that nothing need be built."""
        from nmri3d import template

        return self._in_turn(template.available, no_progress)

    def build_template(self, *, progress: Progress = no_progress) -> None:
        """Build the reference template of the model, which FLAIR and mean ablation need, if it is not there."""

        def measure(model: Backend, report: Progress) -> bool:
            from nmri3d.template import template_of

            template_of(model, progress=report)
            return True

        self._answer(None, ("derived", "template"), measure, progress)

    def generate(
        self,
        prompt: str,
        n_tokens: int,
        on_step: Callable[[GenerationStep], None],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Writing:
        """Let the model write, scanning as it goes; `on_step` is called for each token in the worker thread.

        The model is given back between tokens, so that others take their turn. Only the last scan is kept: it holds those
        before it.
        """
        from nmri3d.scans.generation import Generation

        tokens: list[Prediction] = []
        generation = self._in_turn(
            lambda model: Generation(model, prompt, n_tokens, temperature=temperature, seed=seed), progress
        )
        while not generation.done:
            progress(len(tokens) / n_tokens, f"token {len(tokens) + 1} of {n_tokens}")
            step = self._in_turn(generation.step, progress)
            tokens.append(step.token)
            on_step(step)
        return Writing(tuple(tokens), step.text, step.scan)


def _estimated(run: Callable[[Callable[[float], bool]], Any]) -> float:
    """The estimate that a run asks to confirm; the run itself is refused."""
    told: list[float] = []

    def confirm(seconds: float) -> bool:
        told.append(seconds)
        return False

    try:
        run(confirm)
    except Cancelled:
        if not told:
            raise
    return told[0] if told else 0.0
