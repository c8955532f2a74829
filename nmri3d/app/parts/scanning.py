"""The scans' part of the page: SCAN, what opening a tab does, and how a quantity is measured or chosen.

Convention. One scan at a time a visitor; a kept one is shown at once. What a mode needs beside the prompt is the visitor's
choice in the state.

An experiment is about the prompt that was scanned last, in whichever mode. FLAIR of a model without a template shows raw
values, builds the template, and scans once more.

Left out: what the scan means (nmri3d/scans) and how it is drawn (nmri3d/app/brain.py, web/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nmri3d.app.facts import STATISTICS
from nmri3d.app.findings import flair_finding, paths_finding
from nmri3d.app.parts.experiments import Experiments, read_metric, require_fit
from nmri3d.app.parts.insight import Insight
from nmri3d.app.parts.painting import Painting
from nmri3d.app.parts.prediction import PredictionPart
from nmri3d.app.parts.selection import Selection
from nmri3d.app.parts.stimulation import Stimulation
from nmri3d.app.parts.visit import Handlers, Visit, duration
from nmri3d.app.payloads import scan_payload
from nmri3d.app.state import AGGREGATIONS, require_choice, require_message, require_mode, require_text
from nmri3d.errors import InputError
from nmri3d.results import MODES, Scan

PROMPTED = ("fMRI", "DTI", "FLAIR")
METHODS = ("auto", "exact", "atp", "dla")
EFFECTS = ("patch", "mean", "zero")
EDGES = ("eap", "eap-ig", "none")


@dataclass(frozen=True)
class Neighbors:
    """The parts that a scan concerns."""

    selection: Selection
    prediction: PredictionPart
    experiments: Experiments
    painting: Painting
    stimulation: Stimulation
    insight: Insight


class Scanning:
    """What was scanned, and how."""

    def __init__(self, visit: Visit, neighbors: Neighbors) -> None:
        self._visit = visit
        self._near = neighbors

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {
            "open_mode": self._on_open_mode,
            "scan": self._on_scan,
            "aggregate": self._on_aggregate,
            "statistic": self._on_statistic,
            "cancel": self._visit.cancel,
        }

    def forget(self) -> None:
        """The model has gone."""
        self._visit.scans.clear()
        self._visit.set(paths=None, flair=None)
        self._visit.set(**{f"scan_{mode.lower()}": None for mode in MODES})

    def keep(self, scan: Scan, options: Mapping[str, Any]) -> None:
        """Show a scan, and what follows from it. `options` are those that it was measured with."""
        steps = len(scan.tokens)
        data = {"mode": scan.mode, "prompt": scan.provenance.prompt, "options": dict(options), "steps": steps}
        self._visit.record("scan", data, scan)
        self._keep(scan)

    def _keep(self, scan: Scan) -> None:
        visit = self._visit
        payload = scan_payload(scan)
        visit.scans[scan.mode] = scan
        visit.set(**{f"scan_{scan.mode.lower()}": payload})
        visit.with_brain(lambda brain: brain.keep(scan))
        self._near.painting.drop(scan.mode)
        self._near.selection.on_scan(scan)

    async def keep_generated(self, scan: Scan, count: int, data: Mapping[str, Any]) -> None:
        """Show the scan of a text whose last `count` tokens the model wrote; experiments are about the text from now on.

        data  of the event that is recorded
        """
        epoch, text = self._visit.epoch, str(scan.provenance.prompt)
        self._visit.record("generate", data, scan)
        self._keep(scan)
        self._visit.set(scan_fmri={**self._visit.read("scan_fmri"), "generated": count})
        if self._near.experiments.begin(text):
            self._near.insight.on_subject()
        await self._near.prediction.predict(text, epoch)
        await self._near.stimulation.compare_again()

    def scan_open_mode(self) -> None:
        """Scan what the open tab shows, if it needs no prompt and is not there yet; after the work under way, if any."""
        visit = self._visit
        mode = visit.mode
        if mode in ("T1", "T2") and mode not in visit.scans and visit.brain is not None and not visit.busy:
            self._open_scan(mode)

    def show_memory(self) -> None:
        """Tell how much memory is in use now."""
        self._visit.set(memory=_memory_text(self._visit.service.memory()))

    def _on_open_mode(self, mode: Any) -> None:
        mode = require_mode(mode)
        self._visit.set(mode=mode)
        self._visit.with_brain(lambda brain: brain.show(mode))
        self.scan_open_mode()

    def _on_scan(self, prompt: Any, mode: Any = "fMRI", options: Any = None) -> None:
        prompt, mode = require_text(prompt, "prompt"), require_choice(mode, PROMPTED, "mode for a prompt")
        self._visit.show_error("prompt", "")
        self._visit.show_error("corrupt", "")
        self._open_scan(mode, prompt, options)

    def _on_aggregate(self, name: Any) -> None:
        self._visit.set(aggregation=require_choice(name, AGGREGATIONS, "measure"))
        scan = self._visit.scans.get("fMRI")
        if scan is not None:
            self._open_scan("fMRI", scan.provenance.prompt)

    def _on_statistic(self, name: Any) -> None:
        """Paint another statistic of T2. A T2 scan holds them all, so nothing is measured."""
        name = require_choice(name, tuple(known for known, _ in STATISTICS), "statistic")
        scan = self._visit.scans.get("T2")
        if scan is not None:
            self.keep(_with_statistic(scan, name), {"statistic": name})
        self._visit.set(statistic=name)

    def _open_scan(self, mode: str, prompt: str | None = None, options: Any = None) -> None:
        self._visit.require_idle()
        self._visit.task(self.scan(mode, prompt, options), "prompt" if mode in PROMPTED else mode)

    async def scan(self, mode: str, prompt: str | None, options: Any = None, *, follow_up: bool = True) -> None:
        """Scan and show it.

        options    of DTI, as the browser sends them
        follow_up  whether the prediction and the edits are measured too
        """
        visit = self._visit
        epoch, opened_in = visit.epoch, visit.mode
        self._near.prediction.withdraw()
        visit.show_error(mode, "")
        config: dict[str, Any] = {}
        if mode == "fMRI":
            config = {"aggregation": visit.read("aggregation")}
        elif mode == "DTI":
            config = await self._read_circuit(str(prompt), options)
        elif mode == "FLAIR":
            config = {"template": await self._template_of_flair()}
        scan = await visit.run_shown(
            mode, lambda progress: visit.service.scan(mode, prompt, progress=progress, **config), f"The {mode} scan"
        )
        if epoch != visit.epoch:
            return
        if mode == "T2":  # every statistic comes with each T2 scan; all visitors share the one
            scan = _with_statistic(scan, visit.read("statistic"))
        moved_on = visit.mode != opened_in  # the person has opened another tab meanwhile
        another = mode in PROMPTED and self._near.experiments.begin(str(prompt))
        self.keep(scan, {"statistic": visit.read("statistic")} if mode == "T2" else config)
        self._show_figures(scan, config)
        tokens = f", {scan.n_steps} {scan.step_axis}s processed" if scan.tokens else ""
        visit.log.add(f"Scan complete — Mode: {mode}{tokens}, {duration(scan.provenance.seconds)}")
        if mode == "fMRI" and not moved_on:
            visit.set(mode=mode)
        if another:
            self._near.insight.on_subject()
        if follow_up and mode in PROMPTED:
            if another or visit.read("prediction") is None:
                await self._near.prediction.predict(str(prompt), epoch)
            if another or mode == "fMRI":
                await self._near.stimulation.compare_again()
        self.show_memory()
        self.scan_open_mode()
        if config.get("template") == "off":
            await self._build_template(str(prompt))

    async def _template_of_flair(self) -> str:
        """ "off" while the template is not there yet: raw values are shown meanwhile; a network without a lens has none."""
        visit = self._visit
        if "lens" not in visit.require_backend().abilities:
            return "auto"
        ready = await visit.run(lambda progress: visit.service.template_ready(), "The look for a template")
        return "auto" if ready else "off"

    async def _build_template(self, prompt: str) -> None:
        """Build the template and scan once more against it; the raw values are shown meanwhile."""
        visit, epoch = self._visit, self._visit.epoch
        visit.log.add(
            "There is no template of this model yet: it is built once and kept; raw values are shown meanwhile"
        )
        await visit.run_shown(
            "TEMPLATE", lambda progress: visit.service.build_template(progress=progress), "Building the template"
        )
        scan = visit.scans.get("FLAIR")
        if epoch == visit.epoch and scan is not None and scan.provenance.prompt == prompt:
            await self.scan("FLAIR", prompt, follow_up=False)

    def _show_figures(self, scan: Scan, config: dict[str, Any]) -> None:
        """What a scan says beside its picture."""
        visit = self._visit
        if scan.mode == "DTI":
            own = {f"own_{name}": config.get(name) is not None for name in ("target", "foil")}
            visit.set(paths=paths_finding(scan, visit.require_backend(), **own), edge_check=None)
        if scan.mode == "FLAIR":
            visit.set(flair=flair_finding(scan))

    async def _read_circuit(self, prompt: str, options: Any) -> dict[str, Any]:
        """Options of a DTI scan, checked."""
        visit = self._visit
        backend = visit.require_backend()
        options = require_message(options)
        config = {
            **read_metric(backend, options),
            "method": require_choice(options.get("method"), METHODS, "method"),
            "edges": require_choice(options.get("edges"), EDGES, "way to score edges"),
        }
        if config["method"] != "dla":
            config["effect"] = require_choice(options.get("effect"), EFFECTS, "effect")
        try:
            await visit.run(
                lambda progress: require_fit(backend, prompt, config["corrupt"]), "The check of the prompts"
            )
        except InputError as error:
            visit.show_error("corrupt", str(error))
            raise InputError("the corrupted prompt does not fit; see there") from error
        return config


def _with_statistic(scan: Scan, name: str) -> Scan:
    """A T2 scan with another of its statistics as values; as if it had been scanned so."""
    from nmri3d.scans.t2 import STATISTICS as UNITS

    provenance = replace(scan.provenance, config={**scan.provenance.config, "statistic": name})
    values = scan.details[name][None, :]
    return replace(scan, values=values, units=UNITS[name], signed=name == "mean", provenance=provenance)


def _memory_text(memory: dict[str, Any]) -> str:
    from nmri3d.models.budget import human_bytes

    parts = [f"RAM {human_bytes(memory['process'])} / {human_bytes(memory['total'])}"]
    parts += [f"GPU {human_bytes(gpu['used'])} / {human_bytes(gpu['total'])}" for gpu in memory["gpus"]]
    return " · ".join(parts)
