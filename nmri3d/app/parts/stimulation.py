"""The stimulation's part of the page: the stack of edits, and the comparison of the prompt with and without them.

Convention. The stack is this visitor's; the edits themselves are stateless hooks, run anew each time. An edit that is
refused does not enter the stack. A new prompt is measured with the same stack.

Left out: what an edit does (nmri3d/perturbation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nmri3d.app.findings import comparison_finding
from nmri3d.app.parts.experiments import Experiments
from nmri3d.app.parts.painting import Painting
from nmri3d.app.parts.visit import Handlers, Offer, Visit
from nmri3d.app.state import (
    require_choice,
    require_index,
    require_message,
    require_number,
    require_text,
    require_whole,
)
from nmri3d.components import component_id
from nmri3d.errors import InputError
from nmri3d.models.backend import Backend
from nmri3d.results import Comparison
from nmri3d.scene.colors import display_range

if TYPE_CHECKING:
    from nmri3d.perturbation import Edit

KINDS = ("zero", "amplify", "invert", "noise", "ablate", "inject", "patch")

PATIENCE = 0.5
"""Seconds before a progress bar comes up: an edit is measured in less, save when the template must be built first."""

MOST_EDITS = 50


@dataclass(frozen=True, eq=False)
class StackedEdit:
    """One edit of the stack, under a number of its own, and in words."""

    number: int
    edit: Edit
    text: str
    title: str


class Stimulation:
    """The edits, and what they change."""

    def __init__(self, visit: Visit, experiments: Experiments, painting: Painting) -> None:
        self._visit = visit
        self._experiments = experiments
        self._painting = painting
        self._stack: list[StackedEdit] = []
        self._next = 1

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {
            "perturb": self._on_perturb,
            "remove_edit": self._on_remove,
            "undo_edit": self._on_undo,
            "reset_edits": self._on_reset,
        }

    def forget(self) -> None:
        """The model has gone."""
        self._stack = []
        self._visit.set(edits=[], comparison=None, edit_job=None)

    async def compare_again(self) -> None:
        """The prompt is another one: measure the same edits on it."""
        if self._stack:
            await self._visit.supervise(self._replace(self._stack), "comparison")
        else:
            self._show_none()

    def _on_perturb(self, message: Any) -> None:
        visit = self._visit
        visit.show_error("edit", "")

        async def add() -> None:
            backend, subject = visit.require_backend(), self._experiments.require_subject()
            if len(self._stack) >= MOST_EDITS:
                raise InputError(f"the stack holds {MOST_EDITS} edits already; remove some first")
            edit = _read_edit(backend, message, len(subject))
            text, title = _in_words(edit, subject.labels, backend.step_axis)
            stacked = StackedEdit(self._next, edit, text, title)
            self._next += 1
            comparison = await self._measure([*self._stack, stacked])
            if comparison is None:
                return
            visit.record("edit", {"prompt": subject.text, "edit": edit.as_record()}, comparison)
            visit.log.add(f"Perturbation: {title}")

        visit.task(add(), "edit")

    def _on_remove(self, number: Any) -> None:
        numbers = [one.number for one in self._stack]
        if number not in numbers:
            raise InputError("this edit is not in the stack any more")
        if number == numbers[-1]:
            self._take_back()
        else:
            self._visit.task(self._replace([one for one in self._stack if one.number != number]), "comparison")

    def _on_undo(self) -> None:
        if not self._stack:
            raise InputError("there is no edit to take back")
        self._take_back()

    def _on_reset(self) -> None:
        if self._stack:
            self._visit.log.add("All edits dropped")
            self._visit.record("reset", {})
        self._drop()

    def _take_back(self) -> None:
        """The last edit goes."""
        visit, data = self._visit, {"prompt": self._experiments.require_subject().text}
        if len(self._stack) == 1:
            visit.record("undo", data)
            self._drop()
            return

        async def measure() -> None:
            comparison = await self._measure(self._stack[:-1])
            if comparison is not None:
                visit.record("undo", data, comparison)

        visit.show_error("edit", "")
        visit.task(measure(), "comparison")

    def _drop(self) -> None:
        """No edits are left."""
        self._visit.show_error("edit", "")
        self._visit.show_error("comparison", "")
        self._stack = []
        self._show_none()

    async def _replace(self, stack: list[StackedEdit]) -> None:
        """Have this stack instead, or the same one on another prompt."""
        visit, prompt = self._visit, self._experiments.require_subject().text
        visit.show_error("edit", "")
        comparison = await self._measure(stack)
        if comparison is not None:  # a session knows pushing and dropping alone
            visit.record("reset", {"again": True})
            for one in stack:
                data = {"prompt": prompt, "edit": one.edit.as_record()}
                visit.record("edit", data, comparison if one is stack[-1] else None)

    async def _measure(self, stack: list[StackedEdit]) -> Comparison | None:
        """Run the prompt with a stack of edits; it becomes the stack when that went well. None where its model has gone."""
        visit = self._visit
        prompt, epoch = self._experiments.require_subject().text, visit.epoch
        edits = [one.edit for one in stack]
        visit.require_idle()
        visit.show_error("comparison", "")
        visit.set(edit_job={"kind": edits[-1].kind})
        try:
            comparison = await visit.run_shown(
                "EDIT",
                lambda progress: visit.service.perturb(prompt, edits, progress=progress),
                "The perturbation",
                patience=PATIENCE,
            )
        finally:
            visit.set(edit_job=None)
        if epoch != visit.epoch:
            return None
        self._stack = stack
        self._show(comparison)
        return comparison

    def _show(self, comparison: Comparison) -> None:
        visit = self._visit
        visit.set(comparison=comparison_finding(comparison), edits=_stack_payload(self._stack))
        self._painting.offer(**comparison_offers(comparison))
        shown = visit.read("painting")
        if visit.mode == "fMRI":
            self._painting.show(shown["what"] if shown and shown["what"] in ("before", "after") else "change")

    def _show_none(self) -> None:
        self._painting.withdraw("before", "after", "change")
        self._visit.set(comparison=None, edits=[])


def comparison_offers(comparison: Comparison) -> dict[str, Offer]:
    """What can be painted of a comparison, by name; before and after share a display range."""
    before = comparison.scan("before")
    display = display_range(before)
    return {
        "before": Offer(before, display),
        "after": Offer(comparison.scan("after"), display),
        "change": Offer(comparison.scan("change")),
    }


def _stack_payload(stack: Sequence[StackedEdit]) -> list[dict[str, Any]]:
    return [{"number": one.number, "text": one.text, "title": one.title} for one in stack]


def _read_edit(backend: Backend, message: Any, n_steps: int) -> Edit:
    """An edit as a browser asks for it; raises InputError for what is missing or out of range."""
    from nmri3d.perturbation import Edit

    message = require_message(message)
    table = backend.components
    row = message.get("row")
    if row == -1:
        raise InputError("no component is selected; click a region of the brain first")
    row = require_index(row, len(table), "component's row")
    component = table.ids[row]
    neuron = message.get("neuron")
    if neuron not in (None, -1):
        if table.kind[row] != "mlp":
            raise InputError(f"{component} has no neurons; select an MLP")
        neuron = require_index(neuron, backend.info.d_mlp, "neuron")
        component = component_id("neuron", int(table.layer[row]), neuron)
    kind = require_choice(message.get("kind"), KINDS, "edit")
    options: dict[str, Any] = {}
    if kind == "amplify":
        options["factor"] = require_number(message.get("factor"), -1e6, 1e6, "factor")
    if kind == "noise":
        options["sigma"] = require_number(message.get("sigma"), 0, 1e6, "sigma")
        options["seed"] = require_whole(message.get("seed"), 0, 2**31 - 1, "seed")
    if kind == "inject":
        options["values"] = _read_values(message.get("values"))
    if kind == "patch":
        options["source"] = require_text(message.get("source"), "prompt to patch from")
    if message.get("position") is not None:
        options["positions"] = (require_index(message["position"], n_steps, backend.step_axis),)
    return Edit(component, kind, **options)


def _read_values(text: Any) -> float | list[float]:
    """Numbers as a person types them, apart by spaces, commas or semicolons; one alone stands for itself."""
    words = require_text(text, "values").replace(",", " ").replace(";", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"the values to inject must be numbers, apart by spaces or commas ({error})") from None
    if not values or not all(map(math.isfinite, values)):
        raise InputError("the values to inject must be finite numbers, apart by spaces or commas")
    return values[0] if len(values) == 1 else values


_WORDS = {"zero": "zero", "amplify": "amp", "invert": "invert", "noise": "noise", "ablate": "ablate"}


def _in_words(edit: Edit, tokens: Sequence[str], step_axis: str) -> tuple[str, str]:
    """An edit in short, and in full. `tokens`: labels of the steps."""
    detail = {
        "amplify": f" {edit.factor:g}×",
        "noise": f" {edit.sigma:g}σ",
        "patch": f" from “{edit.source}”",
    }.get(edit.kind, "")
    where = ""
    if edit.positions is not None:
        step = edit.positions[0]
        where = f" @{tokens[step].replace(' ', '·') if step_axis == 'token' else tokens[step]}"
    short = edit.component.replace("blocks.", "L").replace(".attn.head_", ".H").replace(".mlp", ".MLP")
    brief = detail if edit.kind in ("amplify", "noise") else ""
    full = f"{edit.kind}{detail} {edit.component}{where or f', all {step_axis}s'}"
    if edit.kind == "noise":
        full += f", seed {edit.seed}"
    return f"{_WORDS.get(edit.kind, edit.kind)}{brief} {short.replace('.neuron_', '.N')}{where}", full
