"""What can be looked into on demand: the attention of a head, the kinds of heads, the logit lens, the check of an edge.

Convention. All of it is about the prompt that was scanned last, save the kinds of heads, which the model has once for all.
It is measured when its tool is open, or asked for.

Left out: how it is measured (nmri3d/scans).
"""

from __future__ import annotations

from typing import Any

from nmri3d.app.findings import attention_finding, kinds_finding, lens_finding, own_effect_finding
from nmri3d.app.parts.experiments import Experiments
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_choice, require_index
from nmri3d.errors import InputError
from nmri3d.models.residual_backend import refusal, require_residual
from nmri3d.results import SLOTS

TOOLS = ("layers", "paths", "heads", "lens", "trace", "sweep", "layout")
LENS_TOKENS = 5


class Insight:
    """Attention, lens and the check of edges."""

    def __init__(self, visit: Visit, experiments: Experiments) -> None:
        self._visit = visit
        self._experiments = experiments
        self._tool = "layers"
        self._head = (0, 0)

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {
            "open_tool": self._on_tool,
            "attention": self._on_attention,
            "head_kinds": self._on_kinds,
            "own_effect": self._on_own_effect,
            "verify_edge": self._on_verify,
        }

    def forget(self) -> None:
        """The model has gone."""
        self._head = (0, 0)
        self._visit.set(attention=None, head_kinds=None, own_effect=None, lens=None, edge_check=None)

    def on_subject(self) -> None:
        """The prompt is another one: what is open is measured anew."""
        self._visit.set(attention=None, own_effect=None, lens=None, edge_check=None)
        self._refresh()

    def _on_tool(self, name: Any) -> None:
        self._tool = require_choice(name, TOOLS, "tool")
        self._refresh()

    def _refresh(self) -> None:
        visit = self._visit
        if self._experiments.subject is None:
            return
        if self._can("lens") and visit.read("lens") is None:
            visit.task(self._show_lens(), "lens")
        if self._can("heads") and visit.read("attention") is None:
            visit.task(self._show_attention(*self._head), "attention")

    def _can(self, tool: str) -> bool:
        """Whether a tool is open and the network can serve it; the browser says why where it cannot."""
        needs = {"lens": "lens", "heads": "attention"}[tool]
        return self._tool == tool and refusal(self._visit.require_backend(), needs) is None

    async def _show_lens(self) -> None:
        visit, subject = self._visit, self._experiments.require_subject()
        visit.show_error("lens", "")
        table = await visit.run(
            lambda progress: visit.service.logit_lens(subject.text, k=LENS_TOKENS, progress=progress), "The logit lens"
        )
        if subject is self._experiments.subject:
            visit.set(lens=lens_finding(table))

    def _on_kinds(self) -> None:
        self._visit.show_error("kinds", "")
        self._visit.task(self._show_kinds(), "kinds")

    async def _show_kinds(self) -> None:
        visit, epoch = self._visit, self._visit.epoch
        kinds = await visit.run(lambda progress: visit.service.head_kinds(progress=progress), "The kinds of heads")
        if epoch == visit.epoch:
            visit.set(head_kinds=kinds_finding(kinds))

    def _on_attention(self, layer: Any, head: Any) -> None:
        info = require_residual(self._visit.require_backend(), "attention").info
        self._head = (require_index(layer, info.n_layers, "layer"), require_index(head, info.n_heads, "head"))
        self._experiments.require_subject()
        self._visit.task(self._show_attention(*self._head), "attention")

    async def _show_attention(self, layer: int, head: int) -> None:
        visit, subject = self._visit, self._experiments.require_subject()
        visit.show_error("attention", "")
        pattern = await visit.run(
            lambda progress: visit.service.attention(subject.text, layer, progress=progress), "The attention"
        )
        if subject is self._experiments.subject and (layer, head) == self._head:
            visit.set(attention=attention_finding(pattern, layer, head, subject.labels))

    def _on_own_effect(self, row: Any) -> None:
        visit = self._visit
        row = require_index(row, len(visit.require_backend().components), "component's row")
        subject, component = self._experiments.require_subject(), visit.require_backend().components.ids[row]
        visit.show_error("own", "")

        async def ask() -> None:
            found = await visit.run(
                lambda progress: visit.service.own_effect(subject.text, component, progress=progress),
                "The component's own effect",
            )
            if subject is self._experiments.subject:
                visit.set(own_effect=own_effect_finding(found, row))

        visit.task(ask(), "own")

    def _on_verify(self, source: Any, target: Any, slot: Any) -> None:
        visit = self._visit
        scan = visit.scans.get("DTI")
        if scan is None:
            raise InputError("there is no path to verify; scan in DTI first")
        count = len(scan.components)
        source = require_index(source, count, "source of the path")
        target = require_index(target, count, "target of the path")
        slot = require_choice(slot, SLOTS, "slot")
        edge = {"source": source, "target": target, "slot": slot}
        visit.show_error("edge", "")

        async def verify() -> None:
            visit.set(edge_check={**edge, "busy": True})
            try:
                measured = await self._measure_edge(source, target, slot)
                visit.set(edge_check={**edge, "busy": False, "measured": measured})
            except BaseException:
                visit.set(edge_check=None)
                raise

        visit.task(verify(), "edge")

    async def _measure_edge(self, source: int, target: int, slot: str) -> float:
        visit = self._visit
        scan = visit.scans["DTI"]
        config, names = scan.provenance.config, scan.components.ids
        return await visit.run(
            lambda progress: visit.service.verify_edge(
                str(scan.provenance.prompt),
                names[source],
                names[target],
                slot,
                corrupt=config["corrupt"],
                effect=config["baseline"],
                target_token=int(scan.details["target"]),
                foil=int(scan.details["foil"]),
                position=int(scan.details["position"]),
                progress=progress,
            ),
            "The check of the path",
        )
